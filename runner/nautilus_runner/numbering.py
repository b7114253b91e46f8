"""Numbers of jobs that run at the same time, by project: CI_CONCURRENT_PROJECT_ID, so that they can keep apart."""

from __future__ import annotations


class ProjectNumbers:
    """The lowest numbers that no other running job of a project has."""

    def __init__(self) -> None:
        self._taken: dict[str, set[int]] = {}

    def take(self, project: str, number: int | None = None) -> int:
        """A number, from 0. `number`: the one that the job had before the runner was restarted."""
        taken = self._taken.setdefault(project, set())
        if number is None:
            number = next(n for n in range(len(taken) + 1) if n not in taken)
        taken.add(number)
        return number

    def give_back(self, project: str, number: int) -> None:
        taken = self._taken.get(project, set())
        taken.discard(number)
        if not taken:
            self._taken.pop(project, None)
