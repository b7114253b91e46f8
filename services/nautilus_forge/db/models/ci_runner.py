"""Runners, the projects that they serve, and the machines that work with their tokens.

Source: GitLab's tables ci_runners, ci_runner_projects, ci_runner_machines. Tokens are kept as SHA-256 digests.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, LargeBinary, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from nautilus_forge.db.base import Base, CreatedAt, IdentityKey


class Runner(Base):
    """`runner_type`: instance_type, group_type, project_type. `access_level`: not_protected, ref_protected.

    `registration_type`: registration_token, or authenticated_user (made by POST /user/runners).
    `contacted_at` and the columns below it are those of the last contact, up to some seconds late.
    """

    __tablename__ = "ci_runners"

    id: Mapped[IdentityKey]
    runner_type: Mapped[str]
    registration_type: Mapped[str]
    creator_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("users.id", ondelete="SET NULL"), index=True
    )
    namespace_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("namespaces.id", ondelete="CASCADE"), index=True
    )
    """The group of a runner of type group_type."""
    token_digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    token_expires_at: Mapped[datetime | None]
    description: Mapped[str | None]
    maintenance_note: Mapped[str | None]
    is_active: Mapped[bool] = mapped_column(default=True, server_default="true")
    is_locked: Mapped[bool] = mapped_column(default=False, server_default="false")
    run_untagged: Mapped[bool] = mapped_column(default=True, server_default="true")
    access_level: Mapped[str] = mapped_column(default="not_protected", server_default="not_protected")
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    maximum_timeout_s: Mapped[int | None]
    created_at: Mapped[CreatedAt]
    contacted_at: Mapped[datetime | None]
    ip_address: Mapped[str] = mapped_column(default="", server_default="")
    name: Mapped[str | None]
    version: Mapped[str | None]
    revision: Mapped[str | None]
    platform: Mapped[str | None]
    architecture: Mapped[str | None]


class RunnerProject(Base):
    """A project that a runner of type project_type serves; the one with the lowest id owns the runner."""

    __tablename__ = "ci_runner_projects"

    id: Mapped[IdentityKey]
    runner_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("ci_runners.id", ondelete="CASCADE"))
    project_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("projects.id", ondelete="CASCADE"), index=True
    )

    __table_args__ = (UniqueConstraint("runner_id", "project_id"),)


class RunnerManager(Base):
    """One machine that works with a runner's token, known by the `system_id` that it sends."""

    __tablename__ = "ci_runner_managers"

    id: Mapped[IdentityKey]
    runner_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("ci_runners.id", ondelete="CASCADE"))
    system_id: Mapped[str]
    version: Mapped[str | None]
    revision: Mapped[str | None]
    platform: Mapped[str | None]
    architecture: Mapped[str | None]
    executor: Mapped[str | None]
    ip_address: Mapped[str] = mapped_column(default="", server_default="")
    config: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    created_at: Mapped[CreatedAt]
    contacted_at: Mapped[datetime | None]

    __table_args__ = (UniqueConstraint("runner_id", "system_id"),)
