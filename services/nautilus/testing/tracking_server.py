"""The tracking endpoints behind a real HTTP server and a real database, with a fake GitLab that says who is who."""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from nautilus.auth import Authenticator
from nautilus.core.identity import Credential, CredentialKind
from nautilus.core.states import JobState
from nautilus.db.models.experiment import Experiment
from nautilus.experiments.ports import NewRun
from nautilus.gitlab.memory import MemoryGitLab
from nautilus.gitlab.memory_server import StoredJob
from nautilus.gitlab.port import Job, Project, User, Visibility
from nautilus.tracking.pool import conninfo
from nautilus.tracking.routes import TrackingApp
from nautilus.tracking.service import TrackingService

if TYPE_CHECKING:
    from starlette.types import ASGIApp

START_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class SubmittedJob:
    """A Nautilus experiment whose job runs: what the script in it gets."""

    run_id: str
    token: str = field(repr=False)
    job_id: int
    project_id: int


@dataclass
class TrackingServer:
    """`url` is where it listens; tokens are `glpat-<username>`."""

    url: str
    database_url: str
    gitlab: MemoryGitLab
    service: TrackingService
    home: Path
    loop: asyncio.AbstractEventLoop

    def user(self, name: str, *, is_admin: bool = False) -> User:
        token = f"glpat-{name}"
        return self.gitlab.users.get(token) or self.gitlab.add_user(name, token, is_admin=is_admin)

    def project(self, owner: str, name: str, visibility: Visibility = Visibility.PRIVATE) -> Project:
        self.user(owner)
        account = self.gitlab.acting(_credential(f"glpat-{owner}"))
        return asyncio.run(account.create_project(name, visibility))

    def add_member(self, project: Project, name: str, access_level: int) -> None:
        self.gitlab.projects[project.id].members[self.user(name).id] = access_level

    def submit(self, project: Project, username: str, **params: object) -> SubmittedJob:
        """What management does at submission, and a runner after it: a run, and a running job with its token."""
        run_id = secrets.token_hex(16)
        self._in_service(self._create_run(project, username, run_id, params))
        number = self._insert_experiment(project, username, run_id, params)
        job = _running_job(next(self.gitlab.ids), project, f"nautilus/run-{number}")
        stored = StoredJob(job, {}, f"glcbt-{secrets.token_hex(10)}", self.user(username))
        self.gitlab.jobs[job.id] = stored
        return SubmittedJob(run_id, stored.token, job.id, project.id)

    def plain_ci_job(self, project: Project, username: str) -> str:
        """The token of a running CI job that belongs to no experiment."""
        job = _running_job(next(self.gitlab.ids), project, "main")
        self.gitlab.jobs[job.id] = StoredJob(job, {}, f"glcbt-{secrets.token_hex(10)}", self.user(username))
        return self.gitlab.jobs[job.id].token

    def finish_job(self, job: SubmittedJob) -> None:
        stored = self.gitlab.jobs[job.job_id]
        stored.job = replace(stored.job, state=JobState.SUCCESS)

    def query(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """Rows straight from the database."""
        with psycopg.connect(conninfo(self.database_url), autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    async def _create_run(
        self, project: Project, username: str, run_id: str, params: dict[str, object]
    ) -> None:
        from nautilus.db.engine import Database

        database = Database(self.database_url, pool_size=1)
        new = NewRun(
            run_id,
            "submitted",
            project.id,
            project.path_with_namespace,
            username,
            params,
            {},
            datetime.now(UTC),
        )
        async with database.transaction() as session:
            await self.service.create_run(session, new)
        await database.close()

    def _insert_experiment(
        self, project: Project, username: str, run_id: str, params: dict[str, object]
    ) -> int:
        from sqlalchemy import create_engine
        from sqlalchemy.orm import Session

        engine = create_engine(self.database_url)
        with Session(engine) as session:
            row = Experiment(
                mlflow_run_id=run_id,
                project_id=project.id,
                project_path=project.path_with_namespace,
                name="submitted",
                user_id=self.user(username).id,
                username=username,
                ref="main",
                commit_sha="0" * 40,
                ci_config_path=".gitlab-ci.yml",
                command="true",
                params=dict(params),
                env={},
                resources={},
                tags=[],
                artifact_paths=[],
                state="running",
            )
            session.add(row)
            session.commit()
            number = row.id
        engine.dispose()
        return number

    def _in_service(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(START_TIMEOUT_S)  # type: ignore[arg-type]


@contextmanager
def tracking_server(database_url: str, home: Path) -> Iterator[TrackingServer]:
    """A server on a free port of this machine, with its data in `home`; stopped at the end."""
    import uvicorn

    gitlab = MemoryGitLab()
    service = TrackingService(
        database_url,
        home / "management",
        home / "spool",
        Authenticator(gitlab, cache_s=0.0),
        gitlab,
        wake=lambda _: None,
    )
    (home / "spool").mkdir(parents=True, exist_ok=True)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(_with_lifespan(service), log_level="warning", http="httptools", lifespan="on")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not server.started:
            if time.monotonic() > deadline or not thread.is_alive():
                raise TimeoutError("the tracking server does not start")
            time.sleep(0.005)
        loop: asyncio.AbstractEventLoop = config.loaded_app.app.loop
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            yield TrackingServer(url, database_url, gitlab, service, home, loop)
        finally:
            server.should_exit = True
            thread.join(START_TIMEOUT_S)


def _with_lifespan(service: TrackingService) -> ASGIApp:
    return _Application(service)


class _Application:
    """The tracking endpoints alone, told of the server's start and end."""

    def __init__(self, service: TrackingService) -> None:
        self._service = service
        self._app = TrackingApp(service)
        self.loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.loop = asyncio.get_running_loop()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self._service.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _running_job(number: int, project: Project, ref: str) -> Job:
    now = datetime.now(UTC)
    return Job(
        id=number,
        name="experiment",
        project_id=project.id,
        pipeline_id=number,
        ref=ref,
        state=JobState.RUNNING,
        failure_reason=None,
        web_url="",
        created_at=now,
        started_at=now,
        finished_at=None,
        runner_id=1,
        has_artifacts=False,
    )


def _credential(token: str) -> Credential:
    from pydantic import SecretStr

    return Credential(CredentialKind.PERSONAL, SecretStr(token))
