"""Experiments and the sweeps that group them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from nautilus.core.states import ExperimentState
from nautilus.db.models.base import Base

_STATES = ", ".join(f"'{state}'" for state in ExperimentState)


class Sweep(Base):
    """Experiments that were submitted together, one per parameter set."""

    __tablename__ = "sweeps"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    project_id: Mapped[int]
    user_id: Mapped[int]
    size: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Experiment(Base):
    """One run of one command at one commit; MLflow's run. Written before anything of it exists at GitLab."""

    __tablename__ = "experiments"
    __table_args__ = (
        CheckConstraint(f"state in ({_STATES})", name="state"),
        Index("ix_experiments_project_id_created_at", "project_id", "created_at"),
        Index("ix_experiments_open", "id", postgresql_where=text("closed_at is null")),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    mlflow_run_id: Mapped[str] = mapped_column(unique=True)
    """32 hex digits, made at submission."""
    project_id: Mapped[int]
    """GitLab's id of the project; MLflow's experiment id."""
    project_path: Mapped[str]
    sweep_id: Mapped[int | None] = mapped_column(ForeignKey("sweeps.id"), index=True)
    rerun_of: Mapped[int | None] = mapped_column(ForeignKey("experiments.id"))
    name: Mapped[str]
    user_id: Mapped[int]
    username: Mapped[str]

    ref: Mapped[str]
    commit_sha: Mapped[str]
    """The user's commit, pinned at submission (40 or 64 hex digits)."""
    ci_config_path: Mapped[str]
    command: Mapped[str]
    """As submitted, with `{name}` placeholders."""
    params: Mapped[dict[str, Any]]
    env: Mapped[dict[str, Any]]
    image: Mapped[str | None]
    resources: Mapped[dict[str, Any]]
    retry: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    """A `core.retrying.RetryPolicy`; what is missing is its default."""
    seed: Mapped[int | None]
    tags: Mapped[list[str]]
    artifact_paths: Mapped[list[str]]

    state: Mapped[str]
    """An ExperimentState."""
    reason: Mapped[str | None]
    """Why it waits or why it ended so; one sentence for the user."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    preempt_requested_at: Mapped[datetime | None]
    """Its job is to end and to be tried again elsewhere; unset once the next attempt is there."""

    launch_started_at: Mapped[datetime | None]
    """Set before the branch is asked for: from then on it may exist at GitLab."""
    run_sha: Mapped[str | None]
    """The generated commit at the tip of `nautilus/run-<id>`."""
    launched_at: Mapped[datetime | None]
    pipeline_id: Mapped[int | None]
    job_id: Mapped[int | None]
    job_url: Mapped[str | None]
    closed_at: Mapped[datetime | None]
    """Set when the run has ended and its branch is gone: nothing more to do."""

    @property
    def branch(self) -> str:
        return f"nautilus/run-{self.id}"
