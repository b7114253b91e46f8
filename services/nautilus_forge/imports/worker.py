"""Runs imports beside the requests, a few at a time; what a restart interrupted begins again.

An import is safe to repeat: git fetches all refs or none, and what is there already is not fetched again.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from typing import TYPE_CHECKING

import orjson
from pydantic import SecretStr
from sqlalchemy import func, select, update

from nautilus_forge.appsettings.values import current_values
from nautilus_forge.db.models import Project, ProjectImport
from nautilus_forge.errors import GitError
from nautilus_forge.git import refs
from nautilus_forge.git.fetching import Bounds, Origin, TooLarge, adopt, fetch_all, plain_reason
from nautilus_forge.lfs.forks import give_to_fork
from nautilus_forge.outbound import git as outbound_git
from nautilus_forge.outbound.errors import UrlBlocked
from nautilus_forge.outbound.rules import rules_for
from nautilus_forge.outbound.target import Target, approve
from nautilus_forge.projects.branches import protect_default_branch
from nautilus_forge.projects.language_upkeep import recount
from nautilus_forge.variables.cipher import Cipher, Undecipherable

if TYPE_CHECKING:
    from nautilus_forge.forge import Forge

log = logging.getLogger(__name__)

PORTS = (80, 443)
"""Those below 1024 from which may be imported. Source: gitlabhq `Project::VALID_IMPORT_PORTS`."""
_AT_A_TIME = 2
_SCRATCH = "import-"


class ImportFailed(Exception):
    """The message is for the project's owner (`import_error`)."""


class Imports:
    """The imports of one forge that are under way in this process."""

    def __init__(self, forge: Forge) -> None:
        self._forge = forge
        self._turn = asyncio.Semaphore(_AT_A_TIME)
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def seal(self, username: str, password: SecretStr) -> bytes:
        """Credentials as a row keeps them until the import is over."""
        pair = orjson.dumps([username, password.get_secret_value()]).decode()
        return Cipher(self._forge.secret_key).encrypt(pair)

    def start(self, project_id: int) -> None:
        """Fill the project as its row says; does nothing where that is under way."""
        if project_id not in self._tasks:
            task = self._forge.spawn(self._run(project_id), f"import of project {project_id}")
            self._tasks[project_id] = task
            task.add_done_callback(lambda _: self._tasks.pop(project_id, None))

    async def resume(self, forge: Forge) -> None:
        """A start-up step: what was not over when the forge ended."""
        for leftover in forge.repositories.tmp_dir.glob(f"{_SCRATCH}*"):
            await asyncio.to_thread(shutil.rmtree, leftover, ignore_errors=True)
        async with forge.database.session() as db:
            statement = select(ProjectImport.project_id)
            unfinished = statement.where(ProjectImport.status.in_(("scheduled", "started")))
            for project_id in (await db.scalars(unfinished)).all():
                self.start(project_id)

    async def forget(self, project_id: int) -> None:
        """The project is gone."""
        if (task := self._tasks.get(project_id)) is not None:
            task.cancel()

    async def _run(self, project_id: int) -> None:
        async with self._turn:
            try:
                origin = await self._begin(project_id)
                if origin is None:
                    return
                head = await self._fetch(project_id, origin)
                await self._finish(project_id, head)
                await recount(self._forge, project_id)
            except ImportFailed as failure:
                await self._fail(project_id, str(failure))
            except Exception:
                log.exception("the import of project %d failed", project_id)
                await self._fail(project_id, "The import failed; the forge's log says why.")

    async def _begin(self, project_id: int) -> Origin | None:
        """None where there is nothing (more) to do. Raises `ImportFailed`."""
        async with self._forge.database.unit_of_work() as db:
            row = await db.get(ProjectImport, project_id, with_for_update=True)
            if row is None or row.status not in ("scheduled", "started"):
                return None
            row.status, row.started_at = "started", await db.scalar(select(func.now()))
            rules = rules_for(self._forge.settings, await current_values(db))
        if row.kind == "fork":
            if row.source_id is None:
                raise ImportFailed("The source project was deleted.")
            source = self._forge.repositories.path(row.source_id)
            return Origin(source.as_posix(), {}, row.branch)
        try:
            target = await approve(row.url or "", rules, ports=PORTS)
        except UrlBlocked as refusal:
            raise ImportFailed(f"Import url is blocked: {refusal.reason}") from refusal
        return Origin(target.url, outbound_git.environment(self._signed_in(target, row)), row.branch)

    def _signed_in(self, target: Target, row: ProjectImport) -> Target:
        if row.credentials is None:
            return target
        try:
            username, password = orjson.loads(Cipher(self._forge.secret_key).decrypt(row.credentials))
        except Undecipherable as error:
            raise ImportFailed("The stored credentials cannot be read any more.") from error
        return Target(
            target.scheme,
            target.host,
            target.port,
            target.rest,
            target.addresses,
            username,
            SecretStr(password),
        )

    async def _fetch(self, project_id: int, origin: Origin) -> str | None:
        settings, repositories = self._forge.settings, self._forge.repositories
        scratch = repositories.tmp_dir / f"{_SCRATCH}{project_id}.git"
        bounds = Bounds(settings.import_max_bytes, settings.import_timeout_s)
        try:
            head = await fetch_all(scratch, origin, bounds)
            await adopt(repositories.git(project_id), scratch)
        except GitError as error:
            raise ImportFailed(plain_reason(error)) from error
        except TooLarge as error:
            raise ImportFailed(f"The repository is larger than {bounds.limit_bytes} bytes.") from error
        except refs.RefMoved as error:
            raise ImportFailed("Somebody pushed to the project before the import was over.") from error
        return head

    async def _finish(self, project_id: int, head: str | None) -> None:
        """The default branch is the source's, protected; a fork has the LFS objects of its source too."""
        git = self._forge.repositories.git(project_id)
        async with self._forge.database.unit_of_work() as db:
            row = await db.get(ProjectImport, project_id, with_for_update=True)
            project = await db.get(Project, project_id)
            if row is None or project is None:
                return
            if head is not None and await refs.ref_sha(git, f"refs/heads/{head}") != refs.ZERO_SHA:
                project.default_branch = head
                await self._forge.repositories.set_head(project_id, head)
                await protect_default_branch(db, project_id, head)
            if row.kind == "fork" and row.source_id is not None:
                await give_to_fork(db, row.source_id, project_id)
            row.status, row.error, row.credentials = "finished", None, None
            row.finished_at = await db.scalar(select(func.now()))
        log.info("project %d is imported", project_id)

    async def _fail(self, project_id: int, reason: str) -> None:
        log.warning("the import of project %d failed: %s", project_id, reason)
        async with self._forge.database.unit_of_work() as db:
            await db.execute(
                update(ProjectImport)
                .where(ProjectImport.project_id == project_id)
                .values(status="failed", error=reason, credentials=None, finished_at=func.now())
            )
