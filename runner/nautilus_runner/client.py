"""The runner's side of GitLab's runner protocol: one method for each call that a runner makes.

Source: GitLab `lib/api/ci/runner.rb`; gitlab-runner 19.x `network/gitlab.go`; shared contract notes.
"""

from __future__ import annotations

import platform
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from pydantic import ValidationError

from nautilus_runner import __version__
from nautilus_runner.errors import ForbiddenError, ServerError, UnavailableError
from nautilus_runner.payload import Job
from nautilus_runner.settings import RunnerSettings
from nautilus_runner.transport import Answer, Transport

_HOLD_S = 120.0  # how long a held request may stay without an answer; GitLab holds 50 to 60 s
_FEATURES = {
    "variables": True,
    "artifacts": True,
    "artifacts_exclude": True,
    "upload_multiple_artifacts": True,
    "upload_raw_artifacts": True,
    "cache": True,
    "fallback_cache_keys": True,
    "refspecs": True,
    "masking": True,
    "raw_variables": True,
    "multi_build_steps": True,
    "trace_reset": True,
    "trace_checksum": True,
    "trace_size": True,
    "cancelable": True,
    "cancel_gracefully": True,
    "return_exit_code": True,
    "two_phase_job_commit": True,
}
_DOCKER_FEATURES = {
    "image": True,
    "services": True,
    "service_variables": True,
    "service_multiple_aliases": True,
    "image_executor_opts": True,
    "service_executor_opts": True,
}


@dataclass(frozen=True, slots=True)
class Offer:
    """Answer to a request for a job. `job` is None where there is none; `last_update` goes into the next request."""

    job: Job | None
    raw: Mapping[str, Any] | None = None
    last_update: str = ""


@dataclass(frozen=True, slots=True)
class JobAnswer:
    """Answer to a call about a running job.

    `job_status` is the server's view ("" when it says nothing); `interval_s` how often it wants to hear from
    us; `range_end` how many bytes of the log it has (None when it does not say).
    """

    status: int
    job_status: str = ""
    interval_s: float | None = None
    range_end: int | None = None
    retry_after_s: float | None = None
    was_held: bool = False

    @property
    def is_lost(self) -> bool:
        """The job is not ours (any longer), or over at the server."""
        return self.status == 403 or self.job_status in ("canceled", "failed")

    @property
    def is_canceling(self) -> bool:
        return self.job_status == "canceling"

    @property
    def is_transient(self) -> bool:
        return self.status == 429 or self.status >= 500


class Coordinator:
    """One registration at one server. Network trouble, 429 and 5xx raise UnavailableError where not said otherwise."""

    def __init__(self, settings: RunnerSettings, system_id: str, gpus: Callable[[], int] = lambda: 0) -> None:
        """`gpus` tells how many this machine is known to have by now."""
        self.settings = settings
        self._system_id = system_id
        self._gpus = gpus
        self._transport = Transport(settings.url, settings.tls_ca_file)

    async def close(self) -> None:
        await self._transport.close()

    async def request_job(self, last_update: str) -> Offer:
        """Ask for a job; the server may hold the question for about a minute.

        Raises ForbiddenError for a bad runner token, UnavailableError, ServerError for the rest.
        """
        body = {
            "token": self.settings.token.get_secret_value(),
            "system_id": self._system_id,
            "info": self._info(),
            **({"last_update": last_update} if last_update else {}),
        }
        answer = await self._transport.request_json(
            "POST", "/api/v4/jobs/request", body, headers=self._runner_token(), read_timeout_s=_HOLD_S
        )
        update = answer.headers.get("x-gitlab-last-update", "")
        if answer.status == 201:
            raw = answer.json()
            try:
                return Offer(Job.model_validate(raw), raw, update)
            except ValidationError as error:
                raise ServerError(
                    f"the server sent a job that can't be read: {error.errors()[0]['msg']}"
                ) from error
        if answer.status in (204, 409):
            return Offer(None, None, update if answer.status == 204 else "")
        raise error_of(answer, "asking for a job")

    async def touch(self, job_id: int, token: str, hold_s: float = 0.0) -> JobAnswer:
        """Say that the job runs (and confirm that we took it).

        With `hold_s` the server is invited (RFC 7240, `Prefer: wait`) to answer only when the job's state
        changes or that time is over; one that does not know this answers at once.
        """
        headers = {"Prefer": f"wait={hold_s:.0f}"} if hold_s >= 1 else {}
        return await self._update(job_id, token, {"state": "running"}, headers, read_timeout_s=30.0 + hold_s)

    async def finish(
        self,
        job_id: int,
        token: str,
        *,
        state: str,
        failure_reason: str | None,
        exit_code: int | None,
        trace: Trace,
        is_given_back: bool = False,
    ) -> JobAnswer:
        """Report the end: `state` is success or failed. `is_given_back`: to be run again, where the server can."""
        body: dict[str, Any] = {
            "state": state,
            "checksum": trace.checksum,
            "output": {"checksum": trace.checksum, "bytesize": trace.bytesize},
        }
        if failure_reason:
            body["failure_reason"] = failure_reason
        if is_given_back:
            body["requeue"] = True
        if exit_code is not None and state == "failed":
            body["exit_code"] = exit_code
        return await self._update(job_id, token, body, {}, read_timeout_s=60.0)

    async def patch_trace(self, job_id: int, token: str, offset: int, data: bytes) -> JobAnswer:
        headers = {
            "Content-Type": "text/plain",
            "Content-Range": f"{offset}-{offset + len(data) - 1}",
            "JOB-TOKEN": token,
        }
        return _job_answer(
            await self._transport.request(
                "PATCH", f"/api/v4/jobs/{job_id}/trace", headers=headers, content=data, read_timeout_s=60.0
            )
        )

    async def upload_artifact(
        self, job_id: int, token: str, query: Mapping[str, str], content: Any, content_type: str, size: int
    ) -> Answer:
        """Send one artifact; redirects (307) and refusals are the caller's to handle."""
        headers = {"JOB-TOKEN": token, "Content-Type": content_type, "Content-Length": str(size)}
        path = f"/api/v4/jobs/{job_id}/artifacts?{urlencode(query)}"
        return await self._transport.request(
            "POST", path, headers=headers, content=content, read_timeout_s=600.0
        )

    @asynccontextmanager
    async def download_artifacts(
        self, job_id: int, token: str
    ) -> AsyncIterator[tuple[Answer, AsyncIterator[bytes]]]:
        """The archive of another job, by that job's token; one redirect (to an object store) is followed without it."""
        path = f"/api/v4/jobs/{job_id}/artifacts?direct_download=true"
        async with self._transport.stream(
            "GET", path, headers={"JOB-TOKEN": token}, read_timeout_s=120.0
        ) as (answer, body):
            target = answer.headers.get("location", "")
            if answer.status not in (301, 302, 303, 307, 308) or not target:
                yield answer, body
                return
        async with self._transport.stream("GET", target, read_timeout_s=120.0) as (answer, body):
            yield answer, body

    async def verify(self) -> Mapping[str, Any]:
        """`{id, token, token_expires_at}` of this registration. Raises ForbiddenError where the token is not good."""
        body = {
            "token": self.settings.token.get_secret_value(),
            "system_id": self._system_id,
            "info": self._info(),
        }
        answer = await self._transport.request_json("POST", "/api/v4/runners/verify", body)
        if answer.status != 200:
            raise error_of(answer, "verifying the runner")
        said = answer.json() if answer.body[:1] == b"{" else {}
        return said if isinstance(said, dict) else {}

    async def unregister(self) -> None:
        body = {"token": self.settings.token.get_secret_value()}
        answer = await self._transport.request_json("DELETE", "/api/v4/runners", body)
        if answer.status != 204:
            raise error_of(answer, "unregistering the runner")

    async def register(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Trade a registration token (in `fields`) for a runner: `{id, token, token_expires_at}`."""
        answer = await self._transport.request_json(
            "POST", "/api/v4/runners", {**fields, "info": self._info()}
        )
        if answer.status != 201:
            raise error_of(answer, "registering the runner")
        said = answer.json()
        return said if isinstance(said, dict) else {}

    async def _update(
        self, job_id: int, token: str, body: dict[str, Any], headers: dict[str, str], read_timeout_s: float
    ) -> JobAnswer:
        answer = await self._transport.request_json(
            "PUT",
            f"/api/v4/jobs/{job_id}",
            {"token": token, "info": self._info(), **body},
            headers={"JOB-TOKEN": token, **headers},
            read_timeout_s=read_timeout_s,
        )
        return _job_answer(answer)

    def _runner_token(self) -> dict[str, str]:
        return {"RUNNER-TOKEN": self.settings.token.get_secret_value()}

    def _info(self) -> dict[str, Any]:
        is_docker = self.settings.executor == "docker"
        return {
            "name": "nautilus-runner",
            "version": __version__,
            "platform": "linux",
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(
                platform.machine(), platform.machine()
            ),
            "executor": "docker" if is_docker else "shell",
            "shell": "bash",
            "features": {**_FEATURES, **(_DOCKER_FEATURES if is_docker else {"shared": True})},
            "config": {"gpus": "all" if self._gpus() else ""},
        }


@dataclass(frozen=True, slots=True)
class Trace:
    """What the final report says of the log: `checksum` as `crc32:<8 hex>`, `bytesize` in bytes."""

    checksum: str
    bytesize: int


def error_of(answer: Answer, doing: str) -> ServerError:
    """The error for an answer that is not the expected one."""
    said = f": {answer.message}" if answer.message else ""
    text = f"{doing}: the server answered {answer.status}{said}"
    if answer.status == 403:
        return ForbiddenError(text, 403)
    if answer.is_transient:
        return UnavailableError(text, answer.status, answer.retry_after_s)
    return ServerError(text, answer.status)


def _job_answer(answer: Answer) -> JobAnswer:
    return JobAnswer(
        status=answer.status,
        job_status=answer.headers.get("job-status", ""),
        interval_s=_seconds(answer.headers.get("x-gitlab-trace-update-interval")),
        range_end=_range_end(answer.headers.get("range")),
        retry_after_s=answer.retry_after_s,
        was_held="wait" in answer.headers.get("preference-applied", ""),
    )


def _seconds(text: str | None) -> float | None:
    try:
        value = float(text) if text else None
    except ValueError:
        return None
    return value if value and 0 < value <= 900 else None


def _range_end(text: str | None) -> int | None:
    tail = text.rpartition("-")[2] if text else ""
    return int(tail) if tail.isdigit() else None
