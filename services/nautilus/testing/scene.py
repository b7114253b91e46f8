"""Pages in a real browser: the service on a port of the loopback, a page of GitLab's for sign-in on another, and
hands to play the runner. Runs in a thread of its own, so that synchronous tests (Playwright) can drive it.
"""

from __future__ import annotations

import asyncio
import html
import math
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from nautilus.core.identity import Credential, CredentialKind, Identity
from nautilus.core.states import JobState
from nautilus.experiments.ports import MetricPoint
from nautilus.experiments.schemas import ExperimentView, Submission
from nautilus.gitlab.memory_server import StoredJob
from nautilus.projects.schemas import NewProject
from nautilus.testing.provider import FakeProvider
from nautilus.testing.world import World, started

T = TypeVar("T")


class Scene:
    """What a test may do behind the pages' back; every method may be called from any thread."""

    def __init__(self, url: str, world: World, loop: asyncio.AbstractEventLoop) -> None:
        self.url = url
        self.world = world
        self._loop = loop

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float = 60) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(timeout_s)

    def identity(self, username: str) -> Identity:
        token, user = next((t, u) for t, u in self.world.gitlab.users.items() if u.username == username)
        credential = Credential(CredentialKind.PERSONAL, SecretStr(token))
        return Identity(user.id, user.username, user.name, user.is_admin, credential)

    def project(self, name: str, username: str = "ada") -> str:
        """A new project from the example; its path."""
        parts = self.world.app.state.parts
        made = self.run(
            parts.projects.create(self.identity(username), NewProject(name=name, template="digits"))
        )
        return str(made.path_with_namespace)

    def submit(self, project: str, username: str = "ada", **fields: Any) -> list[ExperimentView]:
        service = self.world.app.state.parts.experiments.service
        submission = Submission(project=project, **({"command": "python train.py"} | fields))
        return list(self.run(service.submit(self.identity(username), submission)).experiments)

    def take(self, experiment: ExperimentView) -> StoredJob:
        """The runner takes this experiment's job, once GitLab has it."""
        return self.until(lambda: self._take(experiment.id))

    def prints(self, job: StoredJob, text: str | bytes) -> None:
        self.world.gitlab.append_trace(job.job.id, text.encode() if isinstance(text, str) else text)

    def logs(self, experiment: ExperimentView, points: list[tuple[str, int, float]]) -> None:
        """Metrics as (key, step, value), as if the script had sent them now."""
        self.run(self._log(experiment.mlflow_run_id, points))

    def ends(self, job: StoredJob, state: JobState = JobState.SUCCESS, exit_code: int = 0) -> None:
        reason = "script_failure" if state is JobState.FAILED else None
        self.world.gitlab.finish_job(job.job.id, state, failure_reason=reason, exit_code=exit_code)

    def state(self, experiment: ExperimentView) -> str:
        service = self.world.app.state.parts.experiments.service
        return str(self.run(service.get(self.identity("root"), experiment.id)).state)

    def until(self, found: Callable[[], T | None], timeout_s: float = 60) -> T:
        deadline = time.monotonic() + timeout_s
        while (value := found()) is None or value is False:
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.02)
        return value

    def _take(self, experiment_id: int) -> StoredJob | None:
        for stored in list(self.world.gitlab.jobs.values()):
            if stored.job.ref == f"nautilus/run-{experiment_id}" and stored.job.state is JobState.PENDING:
                now = datetime.now(UTC)
                stored.job = replace(stored.job, state=JobState.RUNNING, started_at=now, runner_id=1)
                return stored
        return None

    async def _log(self, run_id: str, points: list[tuple[str, int, float]]) -> None:
        parts, now_ms = self.world.app.state.parts, int(time.time() * 1000)
        rows = [MetricPoint(key, value, now_ms, step) for key, step, value in points]
        async with parts.database.transaction() as session:
            await parts.tracking.log_metrics(session, run_id, rows)


@contextmanager
def open_scene(home: Path, database_url: str) -> Iterator[Scene]:
    """Serves until the block ends."""
    ready: Future[Scene] = Future()
    ended = threading.Event()
    thread = threading.Thread(
        target=lambda: asyncio.run(_serve(home, database_url, ready, ended)), daemon=True
    )
    thread.start()
    try:
        yield ready.result(30)
    finally:
        ended.set()
        thread.join(15)


async def _serve(home: Path, database_url: str, ready: Future[Scene], ended: threading.Event) -> None:
    front, back = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    url, gitlab_url = (f"http://localhost:{one.getsockname()[1]}" for one in (front, back))
    try:
        async with started(home, database_url, url, gitlab_url) as world:
            servers = [_server(world.app, front), _server(_sign_in_page(world.provider), back)]
            ready.set_result(Scene(url, world, asyncio.get_running_loop()))
            await asyncio.to_thread(ended.wait)
            world.app.state.parts.events.close()
            for server, task in servers:
                server.should_exit = True
                await task
    except BaseException as error:
        if not ready.done():
            ready.set_exception(error)
        raise


def _server(app: Any, listener: socket.socket) -> tuple[uvicorn.Server, asyncio.Task[None]]:
    config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    return server, asyncio.create_task(server._serve(sockets=[listener]))


def _sign_in_page(provider: FakeProvider) -> Starlette:
    """GitLab's authorization page: one link for each person."""

    async def authorize(request: Request) -> Response:
        if who := request.query_params.get("as"):
            return RedirectResponse(provider.authorize(str(request.url), who), 302)
        links = "".join(
            f'<p><a href="{html.escape(str(request.url.include_query_params(**{"as": name})))}">{name}</a>'
            for name in provider.people
        )
        return HTMLResponse(f"<!doctype html><title>GitLab</title><h1>Sign in</h1>{links}")

    async def signed_in(_: Request) -> Response:
        return HTMLResponse("<!doctype html><title>GitLab</title><h1>GitLab</h1>")

    routes = [Route("/oauth/authorize", authorize), Route("/{path:path}", signed_in)]
    return Starlette(routes=routes)


def accuracy(step: int, rate: float) -> float:
    """A curve that looks like learning."""
    return 1 - math.exp(-step * rate) * 0.9


@dataclass(frozen=True)
class Section:
    """One section of a job's log as GitLab's runners mark it."""

    name: str
    title: str
    body: str
    started_at: int = 1_700_000_000
    lasted_s: int = 2

    def __str__(self) -> str:
        start = f"section_start:{self.started_at}:{self.name}\r\x1b[0K\x1b[0K\x1b[36;1m{self.title}\x1b[0;m\n"
        return start + self.body + f"section_end:{self.started_at + self.lasted_s}:{self.name}\r\x1b[0K\n"
