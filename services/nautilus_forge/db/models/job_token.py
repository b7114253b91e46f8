"""Whose jobs may reach a project by their token.

Source: GitLab's tables ci_job_token_project_scope_links, ci_job_token_group_scope_links.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from nautilus_forge.db.base import Base, CreatedAt, IdentityKey


class JobTokenAllowance(Base):
    """Jobs of one project, or of all projects below one group, may reach `project_id`."""

    __tablename__ = "ci_job_token_allowances"

    id: Mapped[IdentityKey]
    project_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("projects.id", ondelete="CASCADE"))
    source_project_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("projects.id", ondelete="CASCADE"), index=True
    )
    source_namespace_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("namespaces.id", ondelete="CASCADE"), index=True
    )
    added_by_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        UniqueConstraint("project_id", "source_project_id"),
        UniqueConstraint("project_id", "source_namespace_id"),
        CheckConstraint("num_nonnulls(source_project_id, source_namespace_id) = 1", name="one_source"),
    )
