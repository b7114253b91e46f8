"""A server of the runner protocol in one process: faithful in what it answers, open about what it was told.

Needs starlette, uvicorn and python-multipart (development dependencies). Source: as nautilus_runner.client.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from nautilus_runner.testing.githost import answer_git

RUNNER_TOKEN = "glrt-test-runner-token"  # noqa: S105
REGISTRATION_TOKEN = "GR1348941-test-registration"  # noqa: S105


@dataclass(slots=True)
class Upload:
    filename: str
    content: bytes
    query: dict[str, str]


@dataclass(slots=True)
class ServedJob:
    """What the server knows of a job. `finals` are the bodies of all final PUTs, `claims` how often it was given.

    `runner` is the token of the only runner that gets it, as by a tag; empty: any.
    """

    id: int
    token: str
    payload: dict[str, Any]
    status: str = "pending"
    is_unconfirmed: bool = False
    trace: bytearray = field(default_factory=bytearray)
    trace_times: list[tuple[float, int]] = field(default_factory=list)
    uploads: list[Upload] = field(default_factory=list)
    finals: list[dict[str, Any]] = field(default_factory=list)
    claims: int = 0
    touches: int = 0
    served_artifacts: bytes = b""
    claimed_at: float = 0.0
    runner: str = ""

    @property
    def log(self) -> str:
        return self.trace.decode(errors="replace")

    @property
    def is_over(self) -> bool:
        return self.status in ("success", "failed", "canceled")


def printed(job: ServedJob) -> list[str]:
    """The lines of the script's own output."""
    body = job.log.split(":step_script\r", 1)[1].split("section_end", 1)[0]
    return [line for line in body.splitlines()[1:] if not line.startswith("\x1b[32;1m$")]


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


class ProtocolServer:
    """`async with ProtocolServer(...) as server`: serves at `server.url` until the block ends.

    `hold_s`: how long a request for a job is held. `interval`: X-GitLab-Trace-Update-Interval. `knows_prefer`:
    whether a touch may be held. `accepts_first` answers that many final PUTs with 202 before 200. `down` makes
    every call but git a 503. While `may_confirm` is not set, no claim is confirmed; until then a job takes
    neither log nor result (GitLab's two-phase commit of jobs). No token reads the repositories of `closed_projects`.
    """

    def __init__(self, repositories: Path | None = None, **options: Any) -> None:
        self.repositories = repositories
        self.hold_s: float = options.pop("hold_s", 30.0)
        self.interval: str = options.pop("interval", "1")
        self.knows_prefer: bool = options.pop("knows_prefer", True)
        self.accepts_first: int = options.pop("accepts_first", 0)
        self.is_down = False
        self.may_confirm = asyncio.Event()
        self.may_confirm.set()
        self.upload_statuses: list[int] = []
        self.closed_projects: set[str] = set()
        self.jobs: dict[int, ServedJob] = {}
        self.requests: list[tuple[str, str]] = []
        self.registered: list[dict[str, Any]] = []
        self.runner_tokens = {RUNNER_TOKEN}
        self.last_requests: list[dict[str, Any]] = []
        self._queue_version = 1
        self._changed = asyncio.Condition()
        self.port: int = options.pop("port", 0)
        self._reserved: list[socket.socket] = []
        self.host: str = options.pop("host", "127.0.0.1")
        assert not options, options

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def __aenter__(self) -> ProtocolServer:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()
        for reserved in self._reserved:
            reserved.close()

    async def start(self) -> None:
        if not self._reserved:
            self._reserved = [self._bound()]
            self.port = self._reserved[0].getsockname()[1]
        listener = self._bound()
        config = uvicorn.Config(
            self._app(), log_level="error", lifespan="off", access_log=False, timeout_graceful_shutdown=1
        )
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        while not self._server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    def _bound(self) -> socket.socket:
        """A socket at our port. One that does not listen keeps others from the port while the server is away."""
        # named as TCP, or asyncio leaves Nagle's algorithm on: 40 ms for every answer
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((self.host, self.port))
        return bound

    async def stop(self) -> None:
        """Held requests are answered with 503, others cut off."""
        self.is_down = True
        self._notify()
        self._server.should_exit = self._server.force_exit = True
        await self._task

    # ---- what a test does

    def add_job(self, payload: dict[str, Any], artifacts: bytes = b"", runner: str = "") -> ServedJob:
        job = ServedJob(payload["id"], payload["token"], payload, served_artifacts=artifacts, runner=runner)
        self.jobs[job.id] = job
        self._queue_version += 1
        self._notify()
        return job

    def offer_again(self, job: ServedJob) -> None:
        """The lease of a claim that was never confirmed has run out."""
        job.status = "pending"
        job.is_unconfirmed = False
        self._queue_version += 1
        self._notify()

    def cancel(self, job: ServedJob, *, force: bool = False) -> None:
        job.status = "canceled" if force or job.status == "pending" else "canceling"
        self._notify()

    async def until(self, condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Wait for something that only changes by the runner's calls. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(condition)

    async def finished(self, job: ServedJob, timeout_s: float = 60.0) -> ServedJob:
        await self.until(lambda: job.is_over, timeout_s)
        return job

    # ---- the protocol

    def _app(self) -> Starlette:
        routes = [
            Route("/api/v4/jobs/request", self._request_job, methods=["POST"]),
            Route("/api/v4/jobs/{id:int}", self._update_job, methods=["PUT"]),
            Route("/api/v4/jobs/{id:int}/trace", self._patch_trace, methods=["PATCH"]),
            Route("/api/v4/jobs/{id:int}/artifacts", self._upload, methods=["POST"]),
            Route("/api/v4/jobs/{id:int}/artifacts", self._download, methods=["GET"]),
            Route("/api/v4/runners", self._register, methods=["POST"]),
            Route("/api/v4/runners", self._unregister, methods=["DELETE"]),
            Route("/api/v4/runners/verify", self._verify, methods=["POST"]),
            Route("/{path:path}", self._git, methods=["GET", "POST"]),
        ]
        return Starlette(routes=routes, exception_handlers={ClientDisconnect: _gone})

    def _notify(self) -> None:
        async def tell() -> None:
            async with self._changed:
                self._changed.notify_all()

        self._telling = asyncio.ensure_future(tell())

    def _note(self, request: Request) -> Response | None:
        self.requests.append((request.method, request.url.path))
        return PlainTextResponse("down", 503) if self.is_down else None

    async def _request_job(self, request: Request) -> Response:
        if refusal := self._note(request):
            return refusal
        body = await request.json()
        self.last_requests.append(body)
        token = body.get("token")
        if token not in self.runner_tokens:
            return JSONResponse({"message": "403 Forbidden"}, 403)
        if body.get("last_update") == str(self._queue_version):
            with contextlib.suppress(TimeoutError):
                await self.until(lambda: self._pending(token) is not None or self.is_down, self.hold_s)
        if self.is_down:
            return PlainTextResponse("down", 503)
        job = self._pending(token)
        if job is None or await request.is_disconnected():
            return Response(status_code=204, headers={"X-GitLab-Last-Update": str(self._queue_version)})
        features = body.get("info", {}).get("features", {})
        job.status, job.is_unconfirmed = "running", bool(features.get("two_phase_job_commit"))
        job.claims += 1
        job.claimed_at = asyncio.get_running_loop().time()
        self._notify()
        return JSONResponse(job.payload, 201)

    def _pending(self, token: str) -> ServedJob | None:
        """The first job that this runner may have."""
        waiting = (job for job in self.jobs.values() if job.status == "pending")
        return next((job for job in waiting if job.runner in ("", token)), None)

    def _authorized(self, request: Request, token: str | None) -> ServedJob | Response:
        job = self.jobs.get(request.path_params["id"])
        given = token or request.headers.get("JOB-TOKEN")
        if job is None or given != job.token:
            return JSONResponse({"message": "403 Forbidden"}, 403)
        if job.status not in ("running", "canceling"):
            headers = {} if job.status == "pending" else {"Job-Status": job.status}
            return JSONResponse({"message": "403 Forbidden - Job is not running"}, 403, headers)
        return job

    async def _update_job(self, request: Request) -> Response:
        if refusal := self._note(request):
            return refusal
        body = await request.json()
        job = self._authorized(request, body.get("token"))
        if isinstance(job, Response):
            return job
        if body["state"] == "running":
            self._notify()
            await self.may_confirm.wait()
            job.is_unconfirmed = False
            job.touches += 1
            return await self._touched(request, job)
        if job.is_unconfirmed:
            return JSONResponse({"message": "400 Bad Request"}, 400)
        job.finals.append(body)
        if self.accepts_first > 0:
            self.accepts_first -= 1
            self._notify()
            return PlainTextResponse("202", 202, {"X-GitLab-Trace-Update-Interval": "1"})
        output = body.get("output", {})
        if output.get("checksum") != f"crc32:{zlib.crc32(job.trace):08x}" or output.get("bytesize") != len(
            job.trace
        ):
            self._notify()
            return PlainTextResponse("412", 412)
        job.status = "canceled" if job.status == "canceling" else body["state"]
        self._notify()
        return PlainTextResponse("200", 200, self._headers(job))

    async def _touched(self, request: Request, job: ServedJob) -> Response:
        headers = {}
        wait = request.headers.get("Prefer", "").partition("wait=")[2]
        self._notify()
        if wait and self.knows_prefer:
            headers["Preference-Applied"] = f"wait={wait}"
            with contextlib.suppress(TimeoutError):
                await self.until(lambda: job.status != "running" or self.is_down, float(wait))
        return PlainTextResponse("200", 200, {**self._headers(job), **headers})

    async def _patch_trace(self, request: Request) -> Response:
        if refusal := self._note(request):
            return refusal
        data = await request.body()  # before it is looked whose job it is: nothing changes in between
        job = self._authorized(request, None)
        if isinstance(job, Response):
            return job
        if job.is_unconfirmed:
            self._notify()
            return JSONResponse({"message": "403 Forbidden - Job is not processing on runner"}, 403)
        start = int(request.headers["Content-Range"].split("-")[0])
        if start > len(job.trace):
            return PlainTextResponse("416 Range Not Satisfiable", 416, {"Range": f"0-{len(job.trace)}"})
        del job.trace[start:]
        job.trace += data
        job.trace_times.append((asyncio.get_running_loop().time(), len(job.trace)))
        self._notify()
        return Response(status_code=202, headers={**self._headers(job), "Range": f"0-{len(job.trace)}"})

    def _headers(self, job: ServedJob) -> dict[str, str]:
        return {"Job-Status": job.status, "X-GitLab-Trace-Update-Interval": self.interval}

    async def _upload(self, request: Request) -> Response:
        if refusal := self._note(request):
            return refusal
        job = self._authorized(request, None)
        if isinstance(job, Response):
            return job
        if self.upload_statuses:
            return JSONResponse({"message": "not now"}, self.upload_statuses.pop(0))
        async with request.form() as form:
            file: Any = form["file"]
            job.uploads.append(Upload(file.filename, await file.read(), dict(request.query_params)))
        self._notify()
        return JSONResponse({"message": "201 Created"}, 201)

    async def _download(self, request: Request) -> Response:
        if refusal := self._note(request):
            return refusal
        job = self.jobs.get(request.path_params["id"])
        if job is None or request.headers.get("JOB-TOKEN") != job.token:
            return JSONResponse({"message": "403 Forbidden"}, 403)
        if not job.served_artifacts:
            return JSONResponse({"message": "404 Not Found"}, 404)
        return Response(job.served_artifacts, media_type="application/zip")

    async def _register(self, request: Request) -> Response:
        body = await request.json()
        if body.get("token") != REGISTRATION_TOKEN:
            return JSONResponse({"message": "403 Forbidden - invalid token supplied"}, 403)
        self.registered.append(body)
        token = f"glrtr-made-{len(self.registered)}"
        self.runner_tokens.add(token)
        made = {"id": len(self.registered), "token": token, "token_expires_at": None}
        return JSONResponse(made, 201)

    async def _verify(self, request: Request) -> Response:
        body = await request.json()
        if body.get("token") not in self.runner_tokens:
            return JSONResponse({"message": "403 Forbidden"}, 403)
        return JSONResponse({"id": 7, "token": body["token"], "token_expires_at": None})

    async def _unregister(self, request: Request) -> Response:
        body = json.loads(await request.body())
        if body.get("token") not in self.runner_tokens:
            return JSONResponse({"message": "403 Forbidden"}, 403)
        self.runner_tokens.discard(body["token"])
        return Response(status_code=204)

    async def _git(self, request: Request) -> Response:
        self.requests.append((request.method, request.url.path))
        if self.repositories is None:
            return PlainTextResponse("not found", 404)
        if any(request.url.path.startswith(f"/{project}.git/") for project in self.closed_projects):
            return PlainTextResponse("The project you were looking for could not be found.", 404)
        tokens = {job.token for job in self.jobs.values()}
        return await answer_git(self.repositories, request, tokens)


async def _gone(request: Request, error: Exception) -> Response:
    """The client (or the network) cut the request off: there is nobody to answer."""
    return PlainTextResponse("gone", 499)
