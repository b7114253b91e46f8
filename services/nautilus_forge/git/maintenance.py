"""Keeping repositories compact: git's own `gc --auto`, beside the requests, one repository at a time."""

from __future__ import annotations

import asyncio
import logging
import time

from nautilus_forge.errors import GitError
from nautilus_forge.git.command import Git

log = logging.getLogger(__name__)

_LONGEST_S = 1800.0
_NOT_BEFORE_S = 600.0


class Maintenance:
    """Decides how often to look; git decides whether there is something to do."""

    def __init__(self) -> None:
        self._looked_at: dict[int, float] = {}
        self._asked_for: set[int] = set()
        self._one_at_a_time = asyncio.Lock()

    def is_due(self, project_id: int) -> bool:
        """At most every ten minutes for each project; notes that it was due."""
        now = time.monotonic()
        if now - self._looked_at.get(project_id, -_NOT_BEFORE_S) < _NOT_BEFORE_S:
            return False
        self._looked_at = {key: at for key, at in self._looked_at.items() if now - at < _NOT_BEFORE_S}
        self._looked_at[project_id] = now
        return True

    async def run(self, git: Git) -> None:
        """Pack loose objects and refs once there are many. Unreachable objects live for two weeks."""
        patient = Git(git.repository, _LONGEST_S)
        async with self._one_at_a_time:
            try:
                await patient.output(
                    "-c", "gc.auto=2000", "-c", "gc.autoPackLimit=30", "gc", "--auto", "--quiet"
                )
            except GitError as error:
                log.warning("maintenance of %s: %s", git.repository, error)

    def ask(self, project_id: int) -> bool:
        """Somebody wants the repository packed now; False where that is under way. `pack` must follow."""
        if project_id in self._asked_for:
            return False
        self._asked_for.add(project_id)
        return True

    async def pack(self, project_id: int, git: Git, *, prune: bool) -> None:
        """Everything into one pack, asked for by `ask`. `prune`: what nothing reaches for two weeks goes."""
        patient = Git(git.repository, _LONGEST_S)
        pruned = "--prune=2.weeks.ago" if prune else "--no-prune"
        try:
            async with self._one_at_a_time:
                await patient.output("gc", "--quiet", pruned)
        except GitError as error:
            log.warning("housekeeping of %s: %s", git.repository, error)
        finally:
            self._asked_for.discard(project_id)
