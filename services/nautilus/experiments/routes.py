"""`/api/v1/experiments`."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from nautilus.auth import Authenticator
from nautilus.core.identity import Identity
from nautilus.core.states import ExperimentState
from nautilus.experiments.queries import Filter, Order
from nautilus.experiments.reading import ExperimentReader
from nautilus.experiments.schemas import (
    ArtifactView,
    AttemptView,
    ExperimentView,
    MetricPointView,
    Submission,
    Submitted,
)
from nautilus.experiments.service import ExperimentService
from nautilus.experiments.stream import ExperimentStream
from nautilus.experiments.usage import Usage
from nautilus.pagination import Paged, add_page_headers

_Id = Path(ge=1, lt=2**63)


def experiment_routes(
    experiments: ExperimentService, reader: ExperimentReader, stream: ExperimentStream, auth: Authenticator
) -> APIRouter:
    router = APIRouter(prefix="/experiments", dependencies=[Depends(auth.user)])

    @router.post("", status_code=201)
    async def submit(submission: Submission, caller: Identity = Depends(auth.user)) -> Submitted:
        return await experiments.submit(caller, submission)

    @router.get("/{number}")
    async def show(number: int = _Id, caller: Identity = Depends(auth.user)) -> ExperimentView:
        return await experiments.get(caller, number)

    @router.post("/{number}/cancel")
    async def cancel(
        number: int = _Id, now: bool = False, caller: Identity = Depends(auth.user)
    ) -> ExperimentView:
        return await experiments.cancel(caller, number, is_now=now)

    @router.post("/{number}/preempt")
    async def preempt(number: int = _Id, caller: Identity = Depends(auth.user)) -> ExperimentView:
        return await experiments.preempt(caller, number)

    @router.get("/{number}/attempts")
    async def attempts(number: int = _Id, caller: Identity = Depends(auth.user)) -> list[AttemptView]:
        return await experiments.attempts(caller, number)

    @router.post("/{number}/rerun", status_code=201)
    async def rerun(number: int = _Id, caller: Identity = Depends(auth.user)) -> Submitted:
        return await experiments.rerun(caller, number)

    _add_list_route(router, experiments, auth)
    _add_reading_routes(router, reader, stream, auth)
    return router


def _add_list_route(router: APIRouter, experiments: ExperimentService, auth: Authenticator) -> None:
    @router.get("")
    async def list_experiments(
        request: Request,
        response: Response,
        page: Paged,
        project: str | None = Query(None, max_length=500),
        state: list[ExperimentState] = Query(default_factory=list),
        sweep: int | None = Query(None, ge=1, lt=2**63),
        order_by: str = Query("created_at", max_length=300),
        sort: Literal["asc", "desc"] = "desc",
        caller: Identity = Depends(auth.user),
    ) -> list[ExperimentView]:
        ids = None if project is None else [await experiments.project_id(caller, _number_or_path(project))]
        found, total = await experiments.page(
            caller,
            Filter(ids, state, sweep),
            Order(order_by, sort == "desc"),
            limit=page.per_page,
            offset=page.offset,
        )
        has_next = page.offset + len(found) < total
        add_page_headers(request, response, page, total=total, has_next=has_next)
        return found


def _add_reading_routes(
    router: APIRouter, reader: ExperimentReader, stream: ExperimentStream, auth: Authenticator
) -> None:
    @router.get("/{number}/log")
    async def log(
        number: int = _Id,
        offset: int = Query(0, ge=0, lt=2**63),
        caller: Identity = Depends(auth.user),
    ) -> Response:
        part = await reader.log(caller, number, offset)
        headers = {
            "X-Log-Size": str(part.size),
            "X-Log-Complete": "true" if part.is_complete else "false",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }
        return Response(part.data, media_type="text/plain; charset=utf-8", headers=headers)

    @router.get("/{number}/events")
    async def events(
        number: int = _Id,
        last_event_id: str | None = Header(None),
        caller: Identity = Depends(auth.user),
    ) -> StreamingResponse:
        text = await stream.open(caller, number, last_event_id)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(text, media_type="text/event-stream", headers=headers)

    @router.get("/{number}/metrics")
    async def metrics(number: int = _Id, caller: Identity = Depends(auth.user)) -> dict[str, float | None]:
        return await reader.metrics(caller, number)

    @router.get("/{number}/metrics/{key:path}")
    async def metric(
        key: str, number: int = _Id, caller: Identity = Depends(auth.user)
    ) -> list[MetricPointView]:
        return await reader.metric(caller, number, key)

    @router.get("/{number}/usage")
    async def usage(number: int = _Id, caller: Identity = Depends(auth.user)) -> Usage:
        return await reader.usage(caller, number)

    @router.get("/{number}/artifacts")
    async def artifacts(number: int = _Id, caller: Identity = Depends(auth.user)) -> list[ArtifactView]:
        return await reader.artifacts(caller, number)


def _number_or_path(project: str) -> int | str:
    return int(project) if project.isdecimal() else project
