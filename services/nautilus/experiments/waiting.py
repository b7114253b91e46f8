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
_MOST_QUEUES = 20
Tags = tuple[str, ...]


class WaitingReasons:
    """Asks GitLab for its runners at most every few seconds, and only while something waits."""

    def __init__(self) -> None:
        self._asked_at = float("-inf")
        self._counts: dict[Tags, tuple[int, int]] = {}

    async def refresh(self, account: GitLabAccount, found: Sequence[Experiment]) -> dict[int, str]:
        """For each experiment whose job waits, a sentence. Where GitLab does not list runners, the last
        list counts."""
        waiting: dict[Tags, list[Experiment]] = {}
        for experiment in sorted(found, key=lambda e: e.id):
            if experiment.state == ExperimentState.QUEUED and experiment.launch_started_at is not None:
                waiting.setdefault(_tags_of(experiment), []).append(experiment)
        if time.monotonic() - self._asked_at > REFRESH_S:
            self._counts.clear()
        for tags in list(waiting)[:_MOST_QUEUES]:
            if tags not in self._counts:
                await self._ask(account, tags)
        return {
            experiment.id: runner_sentence(*self._counts.get(tags, (0, 0)), ahead, tags)
            for tags, queue in waiting.items()
            if tags in self._counts
            for ahead, experiment in enumerate(queue)
        }

    async def _ask(self, account: GitLabAccount, tags: Tags) -> None:
        try:
            runners = await account.runners(tags)
        except GitLabError:
            return
        usable = [runner for runner in runners if not runner.is_paused]
        self._counts[tags] = (sum(runner.status == "online" for runner in usable), len(usable))
        self._asked_at = time.monotonic()


def _tags_of(experiment: Experiment) -> Tags:
    """The queue that a run waits in: what GitLab's runners must have to take it."""
    return tuple(sorted(experiment.resources.get("runner_tags", ())))
