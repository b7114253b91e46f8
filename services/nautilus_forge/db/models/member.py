"""Who may do what in a project or a group."""

from __future__ import annotations

from datetime import date

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from nautilus_forge.db.base import Base, CreatedAt, IdentityKey


class Member(Base):
    """A user's access level (10 guest … 50 owner) in exactly one project or namespace.

    `expires_at`: the first day on which the membership no longer counts.
    """

    __tablename__ = "members"

    id: Mapped[IdentityKey]
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"), index=True)
    project_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("projects.id", ondelete="CASCADE"))
    namespace_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("namespaces.id", ondelete="CASCADE")
    )
    access_level: Mapped[int]
    expires_at: Mapped[date | None]
    created_by_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        UniqueConstraint("project_id", "user_id"),
        UniqueConstraint("namespace_id", "user_id"),
        CheckConstraint("num_nonnulls(project_id, namespace_id) = 1", name="one_source"),
        CheckConstraint("access_level IN (5, 10, 15, 20, 30, 40, 50)", name="access_level"),
        Index("ix_members_expires_at", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    )
