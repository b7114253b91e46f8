"""What the repository half of the forge and the CI half need of one another.

Both halves meet in the composition root (`app.py`) alone; neither imports the other's service modules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from nautilus_forge.db.models import CommitNote, MergeRequest, MergeRequestNote, Project, User

if TYPE_CHECKING:
    from nautilus_forge.forge import Forge

ZERO_SHA = "0" * 40
BY_JOB = "nautilus.by-job"
"""Stands among the push options of a push by a job's token: it makes no pipelines (they could go on for ever)."""


@dataclass(frozen=True)
class RefChange:
    """One moved ref. `ref` is the full name (`refs/heads/main`); `ZERO_SHA` stands for "no such ref".

    `refs_in_push`: how many of its kind (branches, tags) the same push moved; `place_in_push`: the how-manyeth it is.
    """

    ref: str
    old_sha: str
    new_sha: str
    refs_in_push: int = field(default=1, compare=False)
    place_in_push: int = field(default=1, compare=False)

    @property
    def is_deletion(self) -> bool:
        return self.new_sha == ZERO_SHA

    @property
    def is_creation(self) -> bool:
        return self.old_sha == ZERO_SHA

    @property
    def is_tag(self) -> bool:
        return self.ref.startswith("refs/tags/")

    @property
    def short_ref(self) -> str:
        """`main` of `refs/heads/main`, `v1` of `refs/tags/v1`."""
        return self.ref.split("/", 2)[2]


class CreateForPush(Protocol):
    """Makes the pipeline of one moved branch or tag; supplied by `pipelines/service.py`.

    Called inside the caller's transaction, which commits right after: rows are added and flushed, never
    committed, and wake-ups are registered by `db.engine.after_commit`. Deletions are not passed.
    `[ci skip]` in the commit's message and the push option `ci.skip` are its business, as are
    `ci.variable=K=V`. A configuration with errors makes a failed pipeline, no exception.
    Returns the pipeline's id, None where none was made.
    """

    async def __call__(
        self,
        db: AsyncSession,
        forge: Forge,
        *,
        project: Project,
        user: User | None,
        change: RefChange,
        push_options: Sequence[str] = (),
    ) -> int | None: ...


@dataclass(frozen=True)
class JobIdentity:
    """What a running job's token stands for: the job's user, seen from one project."""

    job_id: int
    project_id: int
    user_id: int


class ResolveJobToken(Protocol):
    """The running job that a `CI_JOB_TOKEN` belongs to; None where it is unknown or the job is over."""

    async def __call__(self, db: AsyncSession, token: str) -> JobIdentity | None: ...


class LastPipeline(Protocol):
    """The newest pipeline of a commit as `Ci_PipelineBasic` of GitLab's API; None where there is none."""

    async def __call__(self, db: AsyncSession, project_id: int, sha: str) -> dict[str, Any] | None: ...


class UploadGate(Protocol):
    """May this upload begin? Asked by the gateway before it takes the body of a large upload in.

    `path` is decoded. True: yes; False: it is no upload of this kind. A no is raised (`ForgeError`): the route of
    the upload then answers the client.
    """

    async def __call__(self, request: Request, method: str, path: str) -> bool: ...


class FollowRefChange(Protocol):
    """What else follows a branch or tag that has moved; deletions are passed too.

    Called inside the transaction that handles the move, before its pipeline is made. What it does must be right
    if it is done again: the transaction may be rolled back, and the move is then handled later.
    """

    async def __call__(
        self,
        db: AsyncSession,
        forge: Forge,
        *,
        project: Project,
        user: User | None,
        change: RefChange,
        push_options: Sequence[str] = (),
    ) -> None: ...


class MergeRequestHappened(Protocol):
    """Somebody (None: a push of nobody known) did something to a merge request; called in that transaction.

    `action` is GitLab's: open, update, close, reopen, merge, approved, unapproved. `old_sha`: the head before a push.
    `changes`: (previous, current) of what an update changed, by GitLab's names of the attributes.
    """

    async def __call__(
        self,
        db: AsyncSession,
        forge: Forge,
        *,
        merge_request: MergeRequest,
        user: User | None,
        action: str,
        old_sha: str | None = None,
        changes: Mapping[str, tuple[Any, Any]] | None = None,
    ) -> None: ...


class MergeRequestCommented(Protocol):
    """Somebody commented on a merge request; called in that transaction. `action`: create, or update for a new text."""

    async def __call__(
        self,
        db: AsyncSession,
        forge: Forge,
        *,
        merge_request: MergeRequest,
        note: MergeRequestNote,
        user: User,
        action: str = "create",
    ) -> None: ...


class CommitCommented(Protocol):
    """Somebody commented on a commit; called in that transaction."""

    async def __call__(self, db: AsyncSession, forge: Forge, *, note: CommitNote, user: User) -> None: ...


class CreateForMergeRequest(Protocol):
    """Makes the pipeline of a merge request's head commit, in the caller's transaction, as `CreateForPush` does.

    Returns its id, None where the configuration has no job for merge requests. `is_asked`: somebody asked for
    just this pipeline; a configuration that makes none then raises `InvalidRecord`.
    """

    async def __call__(
        self, db: AsyncSession, forge: Forge, *, merge_request: MergeRequest, user: User, is_asked: bool
    ) -> int | None: ...


class ShowPipelines(Protocol):
    """Pipelines as `Ci_PipelineBasic` of GitLab's API, `detailed`: as `Ci_Pipeline`; by id."""

    async def __call__(
        self, db: AsyncSession, pipeline_ids: Sequence[int], *, detailed: bool = False
    ) -> dict[int, dict[str, Any]]: ...


async def no_merge_request_pipelines(
    db: AsyncSession, forge: Forge, *, merge_request: MergeRequest, user: User, is_asked: bool
) -> int | None:
    """A forge without CI."""
    return None


async def no_pipelines_shown(
    db: AsyncSession, pipeline_ids: Sequence[int], *, detailed: bool = False
) -> dict[int, dict[str, Any]]:
    """A forge without CI."""
    return {}


async def no_merges(merge_request_id: int) -> None:
    """A forge without merge requests: nothing waits for a pipeline."""


async def no_last_pipeline(db: AsyncSession, project_id: int, sha: str) -> dict[str, Any] | None:
    """A forge without CI: no commit has a pipeline."""
    return None


async def no_pipelines(
    db: AsyncSession,
    forge: Forge,
    *,
    project: Project,
    user: User | None,
    change: RefChange,
    push_options: Sequence[str] = (),
) -> int | None:
    """A forge without CI: pushes make no pipelines."""
    return None


async def no_job_tokens(db: AsyncSession, token: str) -> JobIdentity | None:
    """A forge without CI: no job token is known."""
    return None
