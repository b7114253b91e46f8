"""Why a job ended: one word, the same in the log, in the journal, in status.json and at MLflow.

GitLab's failure reasons are fewer (a job without memory is a `script_failure` there), so this goes beside them.
"""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    """`label` is what people read."""

    SUCCEEDED = "succeeded"
    USER = "user"  # the script ended with an exit code other than 0, by its own doing
    OUT_OF_MEMORY = "out_of_memory"
    DISK = "disk"
    PIDS = "pids"
    TIMEOUT = "timeout"
    IDLE_GPU = "idle_gpu"
    IMAGE = "image"
    DATA = "data"
    CONFIGURATION = "configuration"  # this machine can't run it as asked
    PLATFORM = "platform"  # we failed
    LOST = "lost"
    INTERRUPTED = "interrupted"
    CANCELED = "canceled"

    @property
    def label(self) -> str:
        return _LABELS.get(self, self.value)


_LABELS = {
    Cause.USER: "user error",
    Cause.OUT_OF_MEMORY: "out of memory",
    Cause.DISK: "disk limit",
    Cause.PIDS: "process limit",
    Cause.IDLE_GPU: "idle GPU",
    Cause.PLATFORM: "system failure",
}
