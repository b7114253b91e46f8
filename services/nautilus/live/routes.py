"""`/api/v1/experiments/{id}/files…` for people, `/api/v1/jobs/{id}/live…` for the runners of running jobs."""

from __future__ import annotations

from email.utils import format_datetime
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from nautilus.auth import Authenticator
from nautilus.core.identity import Identity
from nautilus.errors import Forbidden, InvalidRequest, NotFound
from nautilus.guard import guarded
from nautilus.live.files import LiveFiles, Part
from nautilus.live.ranges import asked_range, wait_of
from nautilus.live.rendezvous import Rendezvous
from nautilus.live.schemas import Asked, FileView, Folder, Questions
from nautilus.tracking.access import Access

_Id = Path(ge=1, lt=2**63)
_JobId = Path(ge=1, lt=2**63)  # of its own, since FastAPI writes the parameter's name into it
_FILE_HEADERS = {
    "Accept-Ranges": "bytes",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}


def file_routes(files: LiveFiles, auth: Authenticator) -> APIRouter:
    router = APIRouter(prefix="/experiments/{number}/files", dependencies=[Depends(auth.user)])

    @router.get("")
    async def folder(
        number: int = _Id, path: str = Query("", max_length=4096), caller: Identity = Depends(auth.user)
    ) -> Folder:
        return await files.list(caller, number, path)

    @router.head("/{path:path}")
    async def look(path: str, number: int = _Id, caller: Identity = Depends(auth.user)) -> Response:
        return _described(await files.look(caller, number, path))

    @router.get("/{path:path}")
    async def read(
        path: str,
        number: int = _Id,
        offset: int | None = Query(None, gt=-(2**63), lt=2**63),
        asked: Annotated[str | None, Header(alias="range")] = None,
        prefer: Annotated[str | None, Header()] = None,
        caller: Identity = Depends(auth.user),
    ) -> Response:
        span = asked_range(asked) if offset is None else None
        start, length = span or (offset or 0, None)
        part = await files.read(caller, number, path, start, length, wait_of(prefer))
        return _part(part, is_range=span is not None)

    @router.put("/{path:path}")
    async def write(
        path: str, request: Request, number: int = _Id, caller: Identity = Depends(auth.user)
    ) -> FileView:
        return await files.write(caller, number, path, _length(request), request.stream())

    return router


def job_routes(rendezvous: Rendezvous, access: Access, auth: Authenticator) -> APIRouter:
    """For a job's runner, which has the job's token: only of its own job, and only where that is a run of ours."""
    router = APIRouter(prefix="/jobs/{job}/live")

    @guarded
    async def runner_of(job: int = _JobId, caller: Identity = Depends(auth.caller)) -> int:
        if caller.job is None or caller.job.job_id != job:
            raise Forbidden("the runner of a job asks here, with the job's own token")
        if await access.own_run(caller) is None:
            raise NotFound("this job is no run of Nautilus")
        return job

    @router.post("", response_model=Questions, responses={204: {}})
    async def hold(asked: Asked, request: Request, job: int = Depends(runner_of)) -> Response | Questions:
        found = await rendezvous.questions(job, asked.wait_s, _gone(request))
        return Questions(requests=[dict(one) for one in found]) if found else Response(status_code=204)

    @router.get("/{question}/content")
    async def content(question: str, job: int = Depends(runner_of)) -> Response:
        upload = rendezvous.upload(job, question)
        return StreamingResponse(upload, media_type="application/octet-stream")

    @router.post("/{question}")
    async def answer(question: str, request: Request, job: int = Depends(runner_of)) -> Response:
        await rendezvous.deliver(job, question, request.stream())
        return Response(status_code=204)

    return router


async def _gone(request: Request) -> None:
    """Done when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _length(request: Request) -> int:
    text = request.headers.get("content-length", "")
    if not text.isdecimal() or len(text) > 15:
        raise InvalidRequest("Content-Length is needed: how many bytes the file has")
    return int(text)


def _described(found: FileView) -> Response:
    headers = dict(_FILE_HEADERS)
    if found.kind != "file":
        raise InvalidRequest(f"{found.path or 'this'} is a {found.kind}: list it with ?path=")
    headers["Content-Length"] = str(found.size_bytes or 0)
    if found.modified_at is not None:
        headers["Last-Modified"] = format_datetime(found.modified_at, usegmt=True)
    return Response(headers=headers, media_type="application/octet-stream")


def _part(part: Part, *, is_range: bool) -> Response:
    headers = {
        **_FILE_HEADERS,
        "Content-Disposition": _disposition(part.path),
        "X-File-Offset": str(part.offset),
        "X-File-Size": str(part.size),
        "X-File-Source": part.source,
    }
    if part.modified_at is not None:
        headers["Last-Modified"] = format_datetime(part.modified_at, usegmt=True)
    if is_range and part.length == 0:
        headers["Content-Range"] = f"bytes */{part.size}"
        return Response(b"", 416, headers)
    headers["Content-Length"] = str(part.length)
    if is_range:
        headers["Content-Range"] = f"bytes {part.offset}-{part.offset + part.length - 1}/{part.size}"
    status = 206 if is_range else 200
    return StreamingResponse(part.parts, status, headers, media_type="application/octet-stream")


def _disposition(path: str) -> str:
    name = path.rpartition("/")[2] or "file"
    return f"attachment; filename*=UTF-8''{quote(name, safe='')}"
