"""Looking up routes by the words of their paths finds what trying them one after the other finds."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.responses import PlainTextResponse
from starlette.routing import Match

from nautilus_forge.api import PARTS, api_routers
from nautilus_forge.routing import RouteIndex, words_of

PATHS = ["/projects", "/projects/user/{user_id}", "/projects/{id}", "/projects/{id}/jobs/{job_id}"]
MORE = ["/projects/{id}/jobs/artifacts/{ref:path}/download", "/projects/{id}/{anything}", "/jobs/request"]


def answer() -> PlainTextResponse:
    return PlainTextResponse("")


class Given:
    """A part with these paths."""

    def __init__(self, paths: list[str], *words: str) -> None:
        self.words = words
        self.loads = 0
        self._paths = paths

    def load(self) -> APIRouter:
        self.loads += 1
        router = APIRouter()
        for path in self._paths:
            router.get(path)(answer)
        return router


def index() -> RouteIndex:
    return RouteIndex("/api/v4", [Given(PATHS), Given(MORE)])


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


def test_a_part_is_loaded_by_the_first_path_of_its_own_and_keeps_its_place() -> None:
    early, late = Given(["/projects/{id}/hooks"], "projects/*/hooks"), Given(["/projects/{id}/hooks"])
    routes = RouteIndex("", [early, late])
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/projects/7/jobs", "headers": []}
    assert routes.matches(scope)[0] is Match.NONE
    assert (early.loads, late.loads) == (0, 1)
    for _ in range(2):
        _, child = routes.matches({**scope, "path": "/projects/7/hooks"})
        assert child["nautilus_forge.route"] is routes.routes[0]
    assert early.loads == 1


def test_the_words_of_each_part_of_the_forge_are_those_of_its_paths() -> None:
    for part in PARTS:
        words = {words_of(route.path) for route in part.load().routes if isinstance(route, APIRoute)}
        assert set(part.words) in (words, set()), (
            f"services/nautilus_forge/api.py: give {part.module} {sorted(words)}"
        )


def test_every_route_of_the_forge_is_found_as_by_trying_all() -> None:
    routes = [route for router in api_routers() for route in router.routes]
    one_by_one = FastAPI(openapi_url=None).router
    by_words = RouteIndex("", PARTS)
    for part in PARTS:
        for words in part.words:
            by_words.matches({"type": "http", "method": "GET", "path": f"/{words}", "headers": []})
    assert len(by_words.routes) == len(routes)
    one_by_one.routes = list(by_words.routes)
    for route in by_words.routes:
        path = route.path.replace(":path}", "}").replace("{", "x").replace("}", "")
        for method in route.methods or ():
            scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "headers": []}
            first = next(r for r in one_by_one.routes if r.matches(scope)[0] is Match.FULL)
            assert by_words.matches(scope)[1]["nautilus_forge.route"] is first, path
