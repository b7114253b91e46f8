"""Who may read and write what: GitLab's membership decides, asked with the caller's own token.

A person reads what their projects hold (a private project from Reporter up) and writes from Developer up. A job's
token reads its own project and writes its own run and the runs that its script made. What a caller may not see does
not exist for them (404). GitLab's answers are believed for at most 10 seconds; what is remembered longer (a run's
number and project) never changes, and whether a run is deleted is read by each statement that writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from starlette.requests import Request
from starlette.types import Scope

from nautilus.auth import Authenticator
from nautilus.core.identity import Identity
from nautilus.errors import (
    Forbidden,
    GitLabForbidden,
    GitLabNotFound,
    GitLabUnauthenticated,
    GitLabUnavailable,
)
from nautilus.errors import Unauthenticated as NoValidToken
from nautilus.gitlab.port import AccessLevel, GitLab, Project, Visibility
from nautilus.tracking.errors import NotAuthenticated, NotFound, NotPermitted, Unavailable
from nautilus.tracking.models import ModelFacts, find_model, no_such_model
from nautilus.tracking.pool import Connection, Pool

CACHE_S = 10.0
_MAX_ENTRIES = 20_000
_PROJECTS_PER_PAGE = 100
_MOST_PROJECT_PAGES = 50

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True)
class RunFacts:
    """What never changes of a run. `number` is its row's id, `made_by` the row of the job's run that made it."""

    number: int
    run_id: str
    experiment_id: int
    made_by: int | None


@dataclass(frozen=True)
class Rights:
    """A caller's rights on a project."""

    can_read: bool
    can_write: bool


_ALL = Rights(True, True)
_READ = Rights(True, False)
_NONE = Rights(False, False)


class Remembered(Generic[K, V]):
    """A small cache: entries live `seconds` long, the oldest go when there are too many."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._entries: dict[K, tuple[float, V]] = {}

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        return entry[1] if entry is not None and entry[0] > self._clock() else None

    def put(self, key: K, value: V) -> V:
        self._entries.pop(key, None)
        while len(self._entries) >= _MAX_ENTRIES:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = (self._clock() + self._seconds, value)
        return value


class Access:
    """One per process."""

    def __init__(self, authenticator: Authenticator, gitlab: GitLab, pool: Pool) -> None:
        self._authenticator = authenticator
        self._gitlab = gitlab
        self._pool = pool
        self._projects: Remembered[tuple[str, int | str], Project | None] = Remembered(CACHE_S)
        self._visible: Remembered[str, frozenset[int]] = Remembered(CACHE_S)
        self._runs: Remembered[str, RunFacts] = Remembered(3600)
        self._job_runs: Remembered[int, RunFacts] = Remembered(CACHE_S)

    async def caller(self, scope: Scope) -> Identity:
        """Raises NotAuthenticated, NotPermitted (a page's session without its CSRF token), Unavailable."""
        try:
            return await self._authenticator.caller(Request(scope))
        except (NoValidToken, GitLabUnauthenticated) as error:
            raise NotAuthenticated(
                f"{error.message}. Set MLFLOW_TRACKING_TOKEN to a personal access token"
                " (or, in a job, to $CI_JOB_TOKEN)."
            ) from error
        except Forbidden as error:
            raise NotPermitted(error.message) from error
        except GitLabUnavailable as error:
            raise Unavailable(error.message, retry_after_s=error.retry_after_s) from error

    async def readable_run(self, caller: Identity, run_id: str) -> RunFacts:
        """Raises NotFound where there is no such run, or none that the caller may see."""
        run = await self._run(run_id)
        if run is None or not (await self.rights(caller, run.experiment_id)).can_read:
            raise no_such_run(run_id)
        return run

    async def writable_run(self, caller: Identity, run_id: str) -> RunFacts:
        """Raises NotFound as above, NotPermitted where the caller may only read."""
        run = await self.readable_run(caller, run_id)
        if caller.job is not None:
            own = await self.own_run(caller)
            if own is None or own.number not in (run.number, run.made_by):
                raise NotPermitted(
                    f"A job's token may write only to its own run and the runs that it makes, not to run {run_id}."
                )
        elif not (await self.rights(caller, run.experiment_id)).can_write:
            raise not_a_developer()
        return run

    async def readable_model(
        self, caller: Identity, model_id: str, *, also_deleted: bool = False
    ) -> ModelFacts:
        """Raises NotFound where there is no such model, or none that the caller may see."""
        async with self._pool.connection() as connection:
            model = await find_model(connection, model_id, also_deleted=also_deleted)
        if not (await self.rights(caller, model.experiment_id)).can_read:
            raise no_such_model(model_id)
        return model

    async def writable_model(self, caller: Identity, model_id: str) -> ModelFacts:
        """A job may write the models of its own runs. Raises NotFound, NotPermitted."""
        model = await self.readable_model(caller, model_id)
        if caller.job is None:
            await self.check_experiment(caller, model.experiment_id, to_write=True)
        elif model.source_run_id is None:
            raise NotPermitted("A job's token may write only to the models that it makes.")
        else:
            await self.writable_run(caller, model.source_run_id)
        return model

    async def own_run(self, caller: Identity) -> RunFacts | None:
        """The run of the Nautilus experiment that the caller's job executes; None for other jobs."""
        job = caller.job
        if job is None:
            return None
        known = self._job_runs.get(job.job_id)
        if known is not None:
            return known
        number = _experiment_of_branch(job.ref)
        if number is None:
            return None
        async with self._pool.connection() as connection:
            rows = await connection.execute(
                "SELECT r.id, r.run_id, r.experiment_id, r.made_by_run FROM experiments e"
                " JOIN tracking_run r ON r.run_id = e.mlflow_run_id"
                " WHERE e.id = %s AND e.project_id = %s AND (e.pipeline_id IS NULL OR e.pipeline_id = %s)",
                (number, job.project_id, job.pipeline_id),
            )
            row = await rows.fetchone()
        return None if row is None else self._job_runs.put(job.job_id, RunFacts(*row))

    async def check_experiment(self, caller: Identity, experiment_id: int, *, to_write: bool = False) -> None:
        """Raises NotFound where the caller may not see the project, NotPermitted where they may only read it.

        A job may write to its project's experiment only by making runs: that is `own_run`'s to say.
        """
        rights = await self.rights(caller, experiment_id)
        if not rights.can_read:
            raise no_such_experiment(str(experiment_id))
        if to_write and not rights.can_write:
            raise not_a_developer()

    async def rights(self, caller: Identity, project_id: int) -> Rights:
        """Raises Unavailable while GitLab does not answer."""
        if caller.job is not None:
            return _READ if caller.job.project_id == project_id else _NONE
        project = await self.project(caller, project_id)
        if project is None:
            return _NONE
        if caller.is_admin or project.access_level >= AccessLevel.DEVELOPER:
            return _ALL
        is_open = project.visibility != Visibility.PRIVATE or project.access_level >= AccessLevel.REPORTER
        return _READ if is_open else _NONE

    async def project(self, caller: Identity, project: int | str) -> Project | None:
        """The project (by number or full path) as the caller's token sees it; None where it sees none."""
        key = (caller.credential.key, project)
        known = self._projects.get(key)
        if known is not None:
            return known
        try:
            found = await self._gitlab.acting(caller.credential).project(project)
        except (GitLabNotFound, GitLabForbidden):
            return None
        except GitLabUnavailable as error:
            raise Unavailable(error.message, retry_after_s=error.retry_after_s) from error
        except GitLabUnauthenticated as error:
            raise NotAuthenticated(error.message) from error
        return self._projects.put(key, found)

    async def visible_projects(self, caller: Identity) -> frozenset[int]:
        """Numbers of the projects that the caller sees. Raises Unavailable."""
        if caller.job is not None:
            return frozenset({caller.job.project_id})
        known = self._visible.get(caller.credential.key)
        if known is not None:
            return known
        account, numbers, page = self._gitlab.acting(caller.credential), set[int](), 1
        try:
            for _ in range(_MOST_PROJECT_PAGES):
                found = await account.projects(page=page, per_page=_PROJECTS_PER_PAGE)
                numbers.update(project.id for project in found.items)
                if found.next_page is None:
                    break
                page = found.next_page
        except GitLabUnavailable as error:
            raise Unavailable(error.message, retry_after_s=error.retry_after_s) from error
        return self._visible.put(caller.credential.key, frozenset(numbers))

    async def _run(self, run_id: str) -> RunFacts | None:
        known = self._runs.get(run_id)
        if known is not None:
            return known
        async with self._pool.connection() as connection:
            run = await find_run(connection, run_id)
        return None if run is None else self._runs.put(run_id, run)


async def find_run(connection: Connection, run_id: str) -> RunFacts | None:
    rows = await connection.execute(
        "SELECT id, run_id, experiment_id, made_by_run FROM tracking_run WHERE run_id = %s", (run_id,)
    )
    row = await rows.fetchone()
    return None if row is None else RunFacts(*row)


def no_such_run(run_id: str) -> NotFound:
    return NotFound(f"Run with id={run_id[:300]} not found")


def no_such_experiment(experiment_id: str) -> NotFound:
    return NotFound(f"No Experiment with id={experiment_id[:300]} exists")


def not_a_developer() -> NotPermitted:
    return NotPermitted("Writing to a project's runs needs the Developer role in the project.")


_BRANCH = "nautilus/run-"


def _experiment_of_branch(ref: str) -> int | None:
    """The Nautilus experiment whose branch this is (`nautilus/run-<number>`)."""
    number = ref.removeprefix(_BRANCH)
    return int(number) if ref.startswith(_BRANCH) and number.isdecimal() and len(number) <= 18 else None
