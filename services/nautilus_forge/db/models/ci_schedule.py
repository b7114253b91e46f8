"""Pipelines that are made at certain times, and those that a token makes.

Source: GitLab's tables ci_pipeline_schedules, ci_pipeline_schedule_variables, ci_triggers.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from nautilus_forge.db.base import Base, CreatedAt, IdentityKey


class PipelineSchedule(Base):
    """`ref` is a full name (`refs/heads/main`). `next_run_at` moves on in the transaction that makes the pipeline.

    `inputs`: values for the configuration's `spec:inputs`, by name.
    """

    __tablename__ = "ci_pipeline_schedules"

    id: Mapped[IdentityKey]
    project_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("projects.id", ondelete="CASCADE"), index=True
    )
    owner_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("users.id", ondelete="SET NULL"), index=True
    )
    description: Mapped[str]
    ref: Mapped[str]
    cron: Mapped[str]
    cron_timezone: Mapped[str] = mapped_column(default="UTC", server_default="UTC")
    is_active: Mapped[bool] = mapped_column(default=True, server_default="true")
    next_run_at: Mapped[datetime | None]
    inputs: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())

    __table_args__ = (
        Index("ix_ci_pipeline_schedules_due", "next_run_at", postgresql_where=text("is_active")),
    )


class ScheduleVariable(Base):
    """A variable that each pipeline of a schedule gets; `value` is encrypted."""

    __tablename__ = "ci_pipeline_schedule_variables"

    id: Mapped[IdentityKey]
    schedule_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("ci_pipeline_schedules.id", ondelete="CASCADE")
    )
    key: Mapped[str]
    value: Mapped[bytes] = mapped_column(LargeBinary)
    variable_type: Mapped[str] = mapped_column(default="env_var", server_default="env_var")
    is_raw: Mapped[bool] = mapped_column(default=False, server_default="false")

    __table_args__ = (UniqueConstraint("schedule_id", "key"),)


class Trigger(Base):
    """A token that makes pipelines with its owner's rights. `token` is encrypted: its owner may see it again."""

    __tablename__ = "ci_triggers"

    id: Mapped[IdentityKey]
    project_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("projects.id", ondelete="CASCADE"), index=True
    )
    owner_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"), index=True)
    description: Mapped[str | None]
    token: Mapped[bytes] = mapped_column(LargeBinary)
    token_digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
