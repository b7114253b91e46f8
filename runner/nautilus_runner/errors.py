"""Everything that goes wrong in the runner.

RunnerError
├── ConfigurationError          config.toml is unreadable or says something impossible
├── ServerError                 the coordinator answered with an error (status, message)
│   ├── ForbiddenError          403: the token is not (any longer) good for this
│   └── UnavailableError        no answer, 429 or 5xx: again later
├── GitError                    git ended with an error while sources were fetched
│   └── SourceRefused           what the project asks for is not fetched: its own doing, no trouble of ours
├── PathError                   a path leads out of the folder that it must stay in
├── ArchiveError                an archive is refused (escape, bomb, broken)
├── LiveRefused                 a look into a running job's folder is refused; knows a code
├── NotRunning                  a command needs the running service, and there is none
├── ControlRefused              the running service refuses what a command asks
└── JobError                    the job ends as failed; knows GitLab's failure reason
    ├── ScriptFailed            the user's script ended with an exit code other than 0
    │   └── LimitExceeded       since it wanted more than it may have
    │       ├── OutOfMemory
    │       ├── DiskExceeded
    │       ├── PidsExceeded
    │       └── GpuIdle         it holds a GPU that it does not use
    ├── JobTimedOut
    ├── JobCanceled             asked for by a user, through the server
    ├── JobLost                 the server no longer knows the job as ours: nothing is reported
    ├── JobInterrupted          this runner is told to stop and to end its jobs
    │   └── JobPreempted        its place is needed: it goes back to the server, to be run again
    ├── ImagePullFailed
    ├── ImageBuildFailed        the job's own Dockerfile: its author's doing
    ├── DataFailed              an input of the job can't be had, or is not what it should be
    ├── JobMisconfigured
    ├── DiskFull                this machine has no room for what the job brings
    └── SystemFailure           we failed, not the job
"""

from __future__ import annotations

from enum import StrEnum

from nautilus_runner.causes import Cause


class FailureReason(StrEnum):
    """What a runner may report. Source: gitlab-runner 19.x `common/spec`, GitLab `Ci::Build.failure_reasons`."""

    SCRIPT = "script_failure"
    SYSTEM = "runner_system_failure"
    TIMEOUT = "job_execution_timeout"
    IMAGE_PULL = "image_pull_failure"
    UNKNOWN = "unknown_failure"
    CONFIGURATION = "runner_configuration_error"
    EXTERNAL = "runner_external_dependency_failure"
    INTERRUPTED = "runner_interrupted"
    CANCELED = "job_canceled"


class RunnerError(Exception):
    """Base of all errors of this package; `str()` is safe to show."""


class ConfigurationError(RunnerError):
    pass


class ServerError(RunnerError):
    """The coordinator refused. `status` is HTTP's; `retry_after_s` what it asked for, if anything."""

    def __init__(self, message: str, status: int = 0, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class ForbiddenError(ServerError):
    pass


class UnavailableError(ServerError):
    pass


class GitError(RunnerError):
    pass


class SourceRefused(GitError):
    pass


class PathError(RunnerError):
    pass


class ArchiveError(RunnerError):
    pass


class LiveRefused(RunnerError):
    """`code`: not_found, bad_path, is_folder, not_ready, too_large, storage_full, broken."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class NotRunning(RunnerError):
    pass


class ControlRefused(RunnerError):
    pass


class JobError(RunnerError):
    """The job ends as failed, with GitLab's `reason`, our `cause` and, where a program ended, its exit code."""

    reason = FailureReason.UNKNOWN
    cause = Cause.PLATFORM

    def __init__(self, message: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class ScriptFailed(JobError):
    reason = FailureReason.SCRIPT
    cause = Cause.USER


class LimitExceeded(ScriptFailed):
    pass


class OutOfMemory(LimitExceeded):
    cause = Cause.OUT_OF_MEMORY


class DiskExceeded(LimitExceeded):
    cause = Cause.DISK


class PidsExceeded(LimitExceeded):
    cause = Cause.PIDS


class GpuIdle(LimitExceeded):
    cause = Cause.IDLE_GPU


class JobTimedOut(JobError):
    reason = FailureReason.TIMEOUT
    cause = Cause.TIMEOUT


class JobCanceled(JobError):
    reason = FailureReason.CANCELED
    cause = Cause.CANCELED


class JobLost(JobError):
    reason = FailureReason.UNKNOWN
    cause = Cause.LOST


class JobInterrupted(JobError):
    reason = FailureReason.INTERRUPTED
    cause = Cause.INTERRUPTED


class JobPreempted(JobInterrupted):
    pass


class ImagePullFailed(JobError):
    reason = FailureReason.IMAGE_PULL
    cause = Cause.IMAGE


class ImageBuildFailed(JobError):
    reason = FailureReason.SCRIPT
    cause = Cause.USER


class DataFailed(JobError):
    reason = FailureReason.EXTERNAL
    cause = Cause.DATA


class JobMisconfigured(JobError):
    reason = FailureReason.CONFIGURATION
    cause = Cause.CONFIGURATION


class DiskFull(JobError):
    reason = FailureReason.SYSTEM
    cause = Cause.DISK


class SystemFailure(JobError):
    reason = FailureReason.SYSTEM
