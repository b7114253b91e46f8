"""A job's end: the last words of its log, the result for the server, and its error in the journal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nautilus_runner import errors
from nautilus_runner.causes import Cause
from nautilus_runner.errors import (
    FailureReason,
    JobError,
    JobInterrupted,
    JobLost,
    JobPreempted,
    SystemFailure,
)
from nautilus_runner.trace.writer import TraceWriter


def cause_of(error: JobError | None) -> Cause:
    return Cause.SUCCEEDED if error is None else error.cause


def say_last_words(trace: TraceWriter, error: JobError | None, used: str) -> None:
    """What it used, then one line with the cause: as gitlab-runner's where the script's own error is the cause."""
    if isinstance(error, JobLost):
        return  # the log is somebody else's by now
    if used:
        trace.raw(used)
    if error is None:
        trace.notice("Job succeeded")
    elif error.cause in (Cause.USER, Cause.TIMEOUT, Cause.CANCELED, Cause.INTERRUPTED):
        trace.error(f"Job failed: {error}")
    else:
        trace.error(f"Job failed ({error.cause.label}): {error}")


def result_of(error: JobError | None, known: Sequence[str]) -> dict[str, Any]:
    """What the server is told; `known` are the reasons that it knows ((): it does not say)."""
    if error is None:
        return {"state": "success", "failure_reason": None, "exit_code": None, "cause": Cause.SUCCEEDED.value}
    reason = str(error.reason)
    if reason == FailureReason.CANCELED:
        reason = str(FailureReason.UNKNOWN)
    elif known and reason not in known:
        reason = str(_substitute(error))
    return {
        "state": "failed",
        "failure_reason": reason,
        "exit_code": error.exit_code,
        "cause": error.cause.value,
        "is_given_back": isinstance(error, JobPreempted),
    }


def _substitute(error: JobError) -> FailureReason:
    """For a server that does not know the reason."""
    return FailureReason.SYSTEM if isinstance(error, JobInterrupted) else FailureReason.UNKNOWN


def saved(error: JobError | None) -> dict[str, Any] | None:
    if error is None:
        return None
    return {"kind": type(error).__name__, "message": str(error), "exit_code": error.exit_code}


def restored(found: dict[str, Any] | None) -> JobError | None:
    """The same error again; one of a kind that this version does not know is a SystemFailure."""
    if found is None:
        return None
    kind = getattr(errors, found["kind"], None)
    if not (isinstance(kind, type) and issubclass(kind, JobError)):
        kind = SystemFailure
    error: JobError = kind(found["message"], found["exit_code"])
    return error
