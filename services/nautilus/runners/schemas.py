"""Runners as `/api/v1` gives them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from nautilus.gitlab.port import Runner


class RunnerView(BaseModel):
    """`status` is GitLab's: online, offline, stale, never_contacted. The last three are of the bundled
    runner only."""

    id: int
    description: str
    runner_type: str
    status: str
    paused: bool
    is_shared: bool
    contacted_at: datetime | None
    executors: list[str] = Field(default_factory=list)
    slots: dict[str, int] | None = None
    gpus: list[dict[str, Any]] = Field(default_factory=list)

    @classmethod
    def of(cls, runner: Runner) -> RunnerView:
        return cls(
            id=runner.id,
            description=runner.description,
            runner_type=runner.runner_type,
            status=runner.status,
            paused=runner.is_paused,
            is_shared=runner.is_shared,
            contacted_at=runner.contacted_at,
        )
