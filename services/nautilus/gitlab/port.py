"""What Nautilus needs of GitLab, in its own words. Two implementations pass the same contract tests:
`gitlab.client` (python-gitlab against a server) and `gitlab.memory` (a fake).

Lifecycle: one `GitLab` per process, `close()` at the end. `acting(credential)` is cheap and does not speak to
the server. Every method is safe to call concurrently, gives up after the client's time limits, and raises:

- GitLabUnavailable      no answer in time, 5xx, 429
- GitLabUnauthenticated  401: the token is wrong, expired or revoked
- GitLabForbidden        403
- GitLabNotFound         404: not there, or not visible to this credential
- GitLabConflict         409, or a 400 that says that the thing exists already
- GitLabRefused          any other 4xx, with GitLab's own words
- GitLabError            an answer that cannot be understood

The calls behind each method are listed in docs/reference/gitlab-port.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from nautilus.core.identity import Credential, JobIdentity
from nautilus.core.states import JobState

T = TypeVar("T")


TRACE_PART_BYTES = 1024 * 1024
"""How much of a log is read at a time; the caller comes again for the rest."""


class Visibility(StrEnum):
    PRIVATE = "private"
    INTERNAL = "internal"
    PUBLIC = "public"


class AccessLevel:
    """GitLab's numbers. Source: https://docs.gitlab.com/api/members/#roles."""

    NONE = 0
    GUEST = 10
    REPORTER = 20
    DEVELOPER = 30
    MAINTAINER = 40
    OWNER = 50


@dataclass(frozen=True)
class User:
    id: int
    username: str
    name: str
    is_admin: bool


@dataclass(frozen=True)
class JobOwner:
    """What a job token stands for: its job and the user who started it."""

    job: JobIdentity
    user: User


@dataclass(frozen=True)
class Project:
    """`access_level` is the caller's own (AccessLevel); 0 where GitLab states none (administrators,
    public)."""

    id: int
    name: str
    path_with_namespace: str
    description: str
    default_branch: str | None
    visibility: str
    http_url_to_repo: str
    web_url: str
    ci_config_path: str
    """Empty where the project uses `.gitlab-ci.yml`."""
    access_level: int
    is_empty: bool
    """Without any commit; GitLab names a default branch nevertheless."""
    created_at: datetime | None
    last_activity_at: datetime | None
    ssh_url_to_repo: str = ""


@dataclass(frozen=True)
class Page(Generic[T]):
    """`total` is None where GitLab does not count (more than 10,000)."""

    items: list[T]
    total: int | None
    next_page: int | None


@dataclass(frozen=True)
class Commit:
    sha: str
    title: str
    message: str


@dataclass(frozen=True)
class FileChange:
    """A file to write in a commit; `path` from the repository's root. `replaces` says whether it is there
    already."""

    path: str
    content: str
    replaces: bool = False
    is_executable: bool = False


@dataclass(frozen=True)
class Pipeline:
    id: int
    sha: str
    ref: str
    status: str
    web_url: str
    yaml_errors: str | None = None


@dataclass(frozen=True)
class Job:
    """`failure_reason` is GitLab's word (`script_failure`, …); durations in seconds, times aware."""

    id: int
    name: str
    project_id: int
    pipeline_id: int
    ref: str
    state: JobState
    failure_reason: str | None
    web_url: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    runner_id: int | None
    has_artifacts: bool
    exit_code: int | None = None
    """Where the server says it: our forge does, GitLab's REST does not."""
    runner_name: str | None = None


@dataclass(frozen=True)
class TracePart:
    """The log's bytes from `offset` on; `size` is how long the log was when it was read."""

    offset: int
    data: bytes
    size: int


@dataclass(frozen=True)
class ArtifactFile:
    """A file in a job's archive; `path` from the project folder."""

    path: str
    size_bytes: int


@dataclass(frozen=True)
class Runner:
    """`status` is GitLab's: online, offline, stale, never_contacted."""

    id: int
    description: str
    runner_type: str
    status: str
    is_paused: bool
    is_shared: bool
    contacted_at: datetime | None = None


@dataclass(frozen=True)
class SshKey:
    """Somebody's public key. `fingerprint` as `ssh-keygen -l` prints it (`SHA256:…`); `kind`: `ssh-ed25519`, …"""

    id: int
    title: str
    kind: str
    fingerprint: str
    usage_type: str
    created_at: datetime | None
    expires_at: datetime | None
    last_used_at: datetime | None
    """None: never, or this GitLab does not say."""


@dataclass(frozen=True)
class ServerCheck:
    """`is_reached`: something answered at its address, if only a proxy; `detail` is for people."""

    is_ready: bool
    is_reached: bool
    detail: str


class GitLabAccount(Protocol):
    """GitLab as one credential sees it. Projects are named by id or by full path."""

    async def whoami(self) -> User: ...

    async def current_job(self) -> JobOwner:
        """For job tokens. Raises GitLabUnauthenticated once the job has ended."""
        ...

    async def create_project(self, name: str, visibility: Visibility, description: str = "") -> Project:
        """In the caller's own namespace, without any commit. Raises GitLabConflict where the name is
        taken."""
        ...

    async def project(self, project: int | str) -> Project: ...

    async def projects(self, *, page: int = 1, per_page: int = 20, search: str = "") -> Page[Project]:
        """Those that the caller can see, most recently made first. `access_level` may be 0 here."""
        ...

    async def resolve_commit(self, project: int | str, ref: str) -> Commit:
        """The commit that a branch, tag or (abbreviated) SHA names now."""
        ...

    async def has_file(self, project: int, path: str, ref: str) -> bool: ...

    async def commit_files(
        self,
        project: int,
        branch: str,
        message: str,
        changes: Sequence[FileChange],
        *,
        start_sha: str | None = None,
    ) -> Commit:
        """One commit. With `start_sha` the branch is made there first: GitLabConflict where it exists
        already.

        Without, it goes on top of the branch, or is the repository's first.
        """
        ...

    async def branch_head(self, project: int, branch: str) -> Commit:
        """Raises GitLabNotFound where the branch is not there."""
        ...

    async def delete_branch(self, project: int, branch: str) -> None:
        """Not being there is fine."""
        ...

    async def pipelines(self, project: int, *, ref: str) -> list[Pipeline]:
        """Of this branch, newest first (the latest 20)."""
        ...

    async def pipeline(self, project: int, pipeline_id: int) -> Pipeline: ...

    async def pipeline_jobs(self, project: int, pipeline_id: int, *, with_retried: bool = False) -> list[Job]:
        """`with_retried`: also the attempts that a later one has replaced."""

    async def retry_job(self, project: int, job_id: int) -> Job:
        """A new attempt of a job that has ended, in the same pipeline. Raises GitLabConflict, GitLabRefused."""

    async def cancel_pipeline(self, project: int, pipeline_id: int) -> None:
        """Cancels what has not ended; does nothing where all has."""
        ...

    async def force_cancel_job(self, project: int, job_id: int) -> None:
        """Ends a job that is canceling without waiting for its runner; does nothing where it is not. Raises
        GitLabForbidden for who is no maintainer."""
        ...

    async def job(self, project: int, job_id: int) -> Job: ...

    async def active_jobs(self, project: int) -> list[Job]:
        """Jobs that wait or run, newest first (at most 100). A job that is not listed need not have ended."""
        ...

    async def job_trace(
        self, project: int, job_id: int, offset: int = 0, *, limit_bytes: int = TRACE_PART_BYTES
    ) -> TracePart:
        """The log from byte `offset` on, at most `limit_bytes` of it; empty where it is not longer."""
        ...

    async def job_artifact_file(self, project: int, job_id: int, path: str, limit_bytes: int) -> bytes:
        """One file out of the job's archive. Raises GitLabNotFound; TooLarge beyond the limit."""
        ...

    async def job_artifact_files(self, project: int, job_id: int) -> list[ArtifactFile]:
        """What is in the job's archive. Raises GitLabNotFound where there is none; TooLarge."""
        ...

    async def ssh_keys(self) -> list[SshKey]:
        """The caller's own, oldest first (the first 100)."""
        ...

    async def add_ssh_key(self, title: str, key: str, expires_on: date | None = None) -> SshKey:
        """To the caller's own. Raises GitLabConflict where anybody has that key, GitLabRefused for what is none."""
        ...

    async def remove_ssh_key(self, key_id: int) -> None:
        """Raises GitLabNotFound for what is not the caller's."""
        ...

    async def runners(self, tags: Sequence[str] = ()) -> list[Runner]:
        """All of the instance for an administrator, else those that the caller may use (the first 100); with
        `tags` only those that have all of them."""
        ...


class GitLab(Protocol):
    """The server."""

    def acting(self, credential: Credential) -> GitLabAccount: ...

    async def check(self, timeout_s: float = 2.0) -> ServerCheck:
        """Asks without a credential how the server is. Never raises."""
        ...

    async def close(self) -> None: ...
