"""Looking up routes by the words of their paths finds what trying them one after the other finds."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.responses import PlainTextResponse
from starlette.routing import Match

from nautilus_forge.app import api_routers
from nautilus_forge.routing import RouteIndex

PATHS = ["/projects", "/projects/user/{user_id}", "/projects/{id}", "/projects/{id}/jobs/{job_id}"]
MORE = ["/projects/{id}/jobs/artifacts/{ref:path}/download", "/projects/{id}/{anything}", "/jobs/request"]


def answer() -> PlainTextResponse:
    return PlainTextResponse("")


def index() -> RouteIndex:
    router = APIRouter()
    for path in PATHS + MORE:
        router.get(path)(answer)
    return RouteIndex("/api/v4", router.routes)


def found(method: str, path: str) -> tuple[Match, str]:
    match, scope = index().matches({"type": "http", "method": method, "path": path, "headers": []})
    return match, scope["nautilus_forge.route"].path if scope else ""


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/api/v4/projects", "/projects"),
        ("/api/v4/projects/7", "/projects/{id}"),
        ("/api/v4/projects/root%2Fdigits", "/projects/{id}"),
        ("/api/v4/projects/user/3", "/projects/user/{user_id}"),
        ("/api/v4/projects/7/jobs/1", "/projects/{id}/jobs/{job_id}"),
        ("/api/v4/projects/7/jobs/artifacts/a/b/download", MORE[0]),
        ("/api/v4/projects/7/stars", "/projects/{id}/{anything}"),
        ("/api/v4/jobs/request", "/jobs/request"),
    ],
)
def test_the_route_that_was_given_first_answers(path: str, route: str) -> None:
    assert found("GET", path) == (Match.FULL, f"/api/v4{route}")


def test_another_method_of_a_path_is_told_apart_from_no_path() -> None:
    assert found("PATCH", "/api/v4/projects/7")[0] is Match.PARTIAL
    assert found("GET", "/api/v4/nothing") == (Match.NONE, "")
    assert found("GET", "/projects/7") == (Match.NONE, "")


def test_every_route_of_the_forge_is_found_as_by_trying_all() -> None:
    routes = [route for router in api_routers() for route in router.routes]
    one_by_one = FastAPI(openapi_url=None).router
    by_words = RouteIndex("", routes)
    one_by_one.routes = list(by_words.routes)
    for route in by_words.routes:
        path = route.path.replace(":path}", "}").replace("{", "x").replace("}", "")
        for method in route.methods or ():
            scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "headers": []}
            first = next(r for r in one_by_one.routes if r.matches(scope)[0] is Match.FULL)
            assert by_words.matches(scope)[1]["nautilus_forge.route"] is first, path
