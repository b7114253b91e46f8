"""What a command on this machine may ask about the jobs that run here, and about their folders.

`jobs`: one answer. `files`: a desk.Request (its verb in `do`) and the job's id; answers the head, then the bytes of a
read in parts (`{"bytes": base64}`). A write carries its bytes in `content` (base64).
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from nautilus_runner import status
from nautilus_runner.errors import ControlRefused
from nautilus_runner.live.desk import Request

if TYPE_CHECKING:
    from nautilus_runner.agent import Agent
    from nautilus_runner.control_socket import Answer, Verb
    from nautilus_runner.job import JobRun

WRITE_LIMIT_BYTES = 700_000
"""What fits into one line of the control socket, as base64."""


def live_verbs(agent: Agent) -> dict[str, Verb]:
    async def jobs(_fields: Mapping[str, Any]) -> Answer:
        return {"jobs": [_described(run) for run in agent.jobs]}

    async def files(fields: Mapping[str, Any]) -> AsyncGenerator[Answer, None]:
        run = _found(agent, fields.get("job"))
        try:
            request = Request.model_validate({**fields, "verb": fields.get("do")})
            content = base64.b64decode(fields.get("content", ""), validate=True)
        except (ValidationError, binascii.Error, TypeError) as error:
            raise ControlRefused("the request can't be understood") from error
        if request.verb == "write":
            request = request.model_copy(update={"length": len(content)})
        answer = await run.desk.answer(request, lambda: _once(content))
        if (refused := answer.head.get("error")) is not None:
            raise ControlRefused(refused["message"])
        yield answer.head
        if answer.content is not None:
            async for part in answer.content:
                yield {"bytes": base64.b64encode(part).decode()}

    return {"jobs": jobs, "files": files}


def _found(agent: Agent, job_id: object) -> JobRun:
    found = [run for run in agent.jobs if run.job.id == job_id]
    if not found:
        raise ControlRefused(
            f"job {job_id} is not on this runner; `nautilus-runner jobs` lists those that are"
        )
    if len(found) > 1:
        servers = ", ".join(run.client.settings.url for run in found)
        raise ControlRefused(
            f"job {job_id} is here for several servers ({servers}): ask at the server instead"
        )
    return found[0]


def _described(run: JobRun) -> dict[str, Any]:
    job, settings = run.job, run.client.settings
    return {
        "id": job.id,
        "state": run.state,
        "started_at": status.timestamp(run.started_at),
        "name": job.job_info.name,
        "project": job.job_info.project_full_path,
        "duration_s": round(max(0.0, time.time() - run.started_at), 1),
        "server": settings.url,
        "runner": settings.label,
        "executor": settings.executor,
        **run.details(),
    }


async def _once(content: bytes) -> AsyncGenerator[bytes, None]:
    if content:
        yield content
