"""Runners: GitLab's, with what the bundled one says of its slots and GPUs."""

from __future__ import annotations

from pathlib import Path

from nautilus.core.identity import Identity
from nautilus.gitlab.port import GitLab
from nautilus.runners.bundled import read_bundled_runner
from nautilus.runners.schemas import RunnerView

BUNDLED = "bundled"
"""How provision describes the runner that it registers for this appliance."""


class RunnerService:
    def __init__(self, gitlab: GitLab, status_file: Path) -> None:
        self._gitlab = gitlab
        self._status_file = status_file

    async def list(self, caller: Identity) -> list[RunnerView]:
        """Those that the caller may see."""
        runners = await self._gitlab.acting(caller.credential).runners()
        views = [RunnerView.of(runner) for runner in runners]
        bundled = read_bundled_runner(self._status_file)
        if bundled is None:
            return views
        own = {"executors": bundled.executors, "slots": bundled.slots, "gpus": bundled.gpus}
        return [
            view.model_copy(update=own) if view.is_shared and view.description == BUNDLED else view
            for view in views
        ]
