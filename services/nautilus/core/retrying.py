"""Which ends of an experiment are tried again: by the source of the error, in GitLab's words for the CI file.

Source: https://docs.gitlab.com/ci/yaml/#retry (`max` is 2 at most; `when` and `exit_codes` each suffice).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

MAX_RETRIES = 2


class Source(StrEnum):
    """Whose fault an end is."""

    PLATFORM = "platform"
    LOST = "lost"
    IMAGE = "image"
    DATA = "data"
    MEMORY = "memory"
    TIMEOUT = "timeout"
    USER = "user"


DEFAULT_ON = (Source.PLATFORM, Source.LOST, Source.IMAGE)
"""What is not the experiment's own doing; the user's errors are never tried again unasked."""

_REASONS: dict[Source, tuple[str, ...]] = {
    Source.PLATFORM: ("runner_system_failure", "runner_interrupted", "api_failure", "scheduler_failure"),
    Source.LOST: ("stuck_or_timeout_failure", "no_updates_running"),
    Source.IMAGE: ("image_pull_failure",),
    Source.DATA: ("runner_external_dependency_failure",),
    Source.TIMEOUT: ("job_execution_timeout", "job_execution_server_timeout"),
    Source.USER: ("script_failure",),
}
_KILLED_FOR_MEMORY = 137
"""GitLab has no reason for it: 128 + SIGKILL, what the kernel's killer leaves."""


@dataclass(frozen=True)
class RetryPolicy:
    """`retries`: after the first attempt; 0 tries nothing again."""

    retries: int = MAX_RETRIES
    sources: Sequence[Source] = DEFAULT_ON

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> RetryPolicy:
        """From what is stored with an experiment; what is missing is the default."""
        on = [Source(word) for word in stored.get("on", ())]
        return cls(int(stored.get("max", MAX_RETRIES)), tuple(on) or DEFAULT_ON)

    def as_json(self) -> dict[str, Any]:
        return {"max": self.retries, "on": [str(source) for source in self.sources]}

    def in_ci(self) -> dict[str, Any] | None:
        """The job's `retry`; None where nothing is tried again."""
        when = [reason for source in self.sources for reason in _REASONS.get(source, ())]
        codes = [_KILLED_FOR_MEMORY] if Source.MEMORY in self.sources else []
        if self.retries == 0 or not (when or codes):
            return None
        return {
            "max": self.retries,
            **({"when": when} if when else {}),
            **({"exit_codes": codes} if codes else {}),
        }


def source_of(failure_reason: str | None, exit_code: int | None) -> Source | None:
    """Whose fault an attempt's end was; None where GitLab's reason says nothing of it."""
    if failure_reason in ("script_failure", None) and exit_code == _KILLED_FOR_MEMORY:
        return Source.MEMORY
    return next((source for source, reasons in _REASONS.items() if failure_reason in reasons), None)
