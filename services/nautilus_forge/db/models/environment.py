"""Environments, and what was deployed to them by which job.

Source: GitLab's tables environments, deployments.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from nautilus_forge.db.base import Base, CreatedAt, IdentityKey


class Environment(Base):
    """`state`: available, stopping, stopped. `tier`: production, staging, testing, development, other."""

    __tablename__ = "environments"

    id: Mapped[IdentityKey]
    project_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("projects.id", ondelete="CASCADE"))
    name: Mapped[str]
    slug: Mapped[str]
    external_url: Mapped[str | None]
    description: Mapped[str | None]
    state: Mapped[str] = mapped_column(default="available", server_default="available")
    tier: Mapped[str] = mapped_column(default="other", server_default="other")
    auto_stop_at: Mapped[datetime | None]
    auto_stop_setting: Mapped[str] = mapped_column(default="always", server_default="always")
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())

    __table_args__ = (
        UniqueConstraint("project_id", "name"),
        UniqueConstraint("project_id", "slug"),
        Index(
            "ix_environments_auto_stop_at",
            "auto_stop_at",
            postgresql_where=text("state = 'available' AND auto_stop_at IS NOT NULL"),
        ),
    )


class Deployment(Base):
    """One deployment. `status`: created, running, success, failed, canceled, skipped, blocked.

    `job_id` is the job that deploys (None: made by the API, or the job is gone). `on_stop` names the job of
    the same pipeline that stops the environment.
    """

    __tablename__ = "deployments"

    id: Mapped[IdentityKey]
    iid: Mapped[int] = mapped_column(BigInteger)
    project_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("projects.id", ondelete="CASCADE"))
    environment_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("environments.id", ondelete="CASCADE"))
    job_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("ci_jobs.id", ondelete="SET NULL"))
    user_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("users.id", ondelete="SET NULL"), index=True
    )
    ref: Mapped[str]
    is_tag: Mapped[bool] = mapped_column(default=False, server_default="false")
    sha: Mapped[str]
    status: Mapped[str]
    on_stop: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("project_id", "iid"),
        UniqueConstraint("job_id"),
        Index("ix_deployments_environment_id", "environment_id", text("id DESC")),
    )
