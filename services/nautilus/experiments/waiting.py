"""Why experiments wait for a runner: what the runners do, and how many runs are before each."""

from __future__ import annotations

import time
from collections.abc import Sequence

from nautilus.core.reasons import runner_sentence
from nautilus.core.states import ExperimentState
from nautilus.db.models.experiment import Experiment
from nautilus.errors import GitLabError
from nautilus.gitlab.port import GitLabAccount

REFRESH_S = 5.0


class WaitingReasons:
    """Asks GitLab for its runners at most every few seconds, and only while something waits."""

    def __init__(self) -> None:
        self._asked_at = float("-inf")
        self._online, self._total = 0, 0

    async def refresh(self, account: GitLabAccount, found: Sequence[Experiment]) -> dict[int, str]:
        """For each experiment whose job waits, a sentence. Where GitLab does not list runners, the last
        list counts."""
        waiting = sorted(
            (e for e in found if e.state == ExperimentState.QUEUED and e.launch_started_at is not None),
            key=lambda e: e.id,
        )
        if not waiting:
            return {}
        if time.monotonic() - self._asked_at > REFRESH_S:
            await self._ask(account)
        return {e.id: runner_sentence(self._online, self._total, ahead) for ahead, e in enumerate(waiting)}

    async def _ask(self, account: GitLabAccount) -> None:
        try:
            runners = await account.runners()
        except GitLabError:
            return
        usable = [runner for runner in runners if not runner.is_paused]
        self._total = len(usable)
        self._online = sum(runner.status == "online" for runner in usable)
        self._asked_at = time.monotonic()
