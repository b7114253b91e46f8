"""Every route asks who calls; GitLab's word about a token is believed for at most ten seconds."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from nautilus.app import PUBLIC_ROUTES, create_app
from nautilus.auth import CACHE_S, Authenticator
from nautilus.errors import SettingError, Unauthenticated
from nautilus.gitlab.memory import MemoryGitLab
from nautilus.guard import check_routes, guarded, unguarded_routes
from nautilus.settings import Settings
from nautilus.testing.experiments import submit, taken
from nautilus.testing.gitlab_worlds import personal
from nautilus.testing.management import RunningManagement

ROUTES = [
    ("GET", "/api/v1/projects"),
    ("POST", "/api/v1/projects"),
    ("GET", "/api/v1/projects/1"),
    ("GET", "/api/v1/experiments"),
    ("POST", "/api/v1/experiments"),
    ("GET", "/api/v1/experiments/1"),
    ("POST", "/api/v1/experiments/1/cancel"),
    ("POST", "/api/v1/experiments/1/rerun"),
    ("GET", "/api/v1/experiments/1/log"),
    ("GET", "/api/v1/experiments/1/events"),
    ("GET", "/api/v1/experiments/1/metrics"),
    ("GET", "/api/v1/experiments/1/metrics/a"),
    ("GET", "/api/v1/experiments/1/artifacts"),
    ("GET", "/api/v1/runners"),
    ("POST", "/api/v1/hooks/gitlab"),
    ("GET", "/api/2.0/mlflow/runs/get"),
]


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"PRIVATE-TOKEN": "wrong"}, {"JOB-TOKEN": "wrong"}],
    ids=["no token", "bearer", "private", "job"],
)
async def test_strangers_are_refused_everywhere(
    management: RunningManagement, headers: dict[str, str]
) -> None:
    async with management.client() as stranger:
        for method, path in ROUTES:
            answer = await stranger.request(method, path, headers=headers)
            assert answer.status_code == 401, (method, path, answer.text)
            assert "www-authenticate" in answer.headers


async def test_the_open_routes_are_exactly_the_public_ones(settings: Settings, gitlab: MemoryGitLab) -> None:
    app = create_app(settings, gitlab=gitlab)
    assert set(unguarded_routes(app, [])) == PUBLIC_ROUTES


def test_a_route_that_asks_nobody_keeps_the_app_from_starting() -> None:
    async def plain(request: Request) -> Response:
        return Response()

    router = APIRouter()
    router.add_api_route("/fast", plain)
    asked = APIRouter(dependencies=[Depends(Authenticator.user)])
    asked.add_api_route("/asked", plain)
    app = FastAPI(openapi_url=None)
    app.include_router(router, prefix="/v1")
    app.include_router(asked)
    app.router.routes += [
        Route("/plain", plain),
        Mount("/sub", routes=[Route("/deep", plain)]),
        Mount("/asgi", Response()),
    ]
    app.router.routes += [Route("/guarded", guarded(_other))]
    assert sorted(unguarded_routes(app, [])) == ["/asgi", "/plain", "/sub/deep", "/v1/fast"]
    with pytest.raises(SettingError, match="/v1/fast"):
        check_routes(app, ["/plain"])


async def _other(request: Request) -> Response:
    return Response()


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer glpat-ada"},
        {"PRIVATE-TOKEN": "glpat-ada"},
        {"Authorization": "Basic " + base64.b64encode(b"anything:glpat-ada").decode()},
    ],
)
async def test_a_token_may_come_in_three_ways(management: RunningManagement, headers: dict[str, str]) -> None:
    async with management.client() as client:
        assert (await client.get("/api/v1/projects", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Basic !!!", "Basic " + base64.b64encode(b"nocolon").decode(), "Digest x", "Bearer a\tb"],
)
async def test_a_header_that_cannot_be_read_is_refused(management: RunningManagement, header: str) -> None:
    async with management.client() as client:
        answer = await client.get("/api/v1/projects", headers={"Authorization": header})
    assert answer.status_code == 401


async def test_a_job_token_is_for_tracking_only(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    await submit(ada, project)
    job = await taken(gitlab)
    async with management.client(job.token) as script:
        assert (await script.get("/api/v1/projects")).status_code == 403
        query = {"run_id": job.script["variables"]["MLFLOW_RUN_ID"]}
        assert (await script.get("/api/2.0/mlflow/runs/get", params=query)).status_code == 200


async def test_gitlab_is_asked_once_per_token_and_again_when_its_word_is_old(gitlab: MemoryGitLab) -> None:
    auth = Authenticator(gitlab, cache_s=0.05)
    for _ in range(5):
        assert (await auth.identify(personal("glpat-ada"))).username == "ada"
    assert gitlab.calls.count("whoami") == 1
    del gitlab.users["glpat-ada"]
    with pytest.raises(Unauthenticated):
        while True:
            await auth._first_valid([personal("glpat-ada")])


async def test_what_is_said_to_be_cached_is_never_cached_longer_than_ten_seconds(
    gitlab: MemoryGitLab,
) -> None:
    assert CACHE_S <= 10
    assert Authenticator(gitlab, cache_s=3600)._cache_s <= 10


async def test_a_refused_token_is_not_remembered(gitlab: MemoryGitLab) -> None:
    auth = Authenticator(gitlab)
    with pytest.raises(Unauthenticated):
        await auth._first_valid([personal("glpat-new")])
    gitlab.add_user("new", "glpat-new")
    assert (await auth._first_valid([personal("glpat-new")])).username == "new"


async def test_a_hook_with_our_secret_makes_us_look(management: RunningManagement) -> None:
    from nautilus.hooks.routes import hook_secret

    key = management.settings.session_key()
    assert key is not None
    woken = management.parts.experiments.reconciler._woken
    woken.clear()
    async with management.client() as gitlab_itself:
        headers = {"X-Gitlab-Token": hook_secret(key), "X-Gitlab-Event": "Job Hook"}
        answer = await gitlab_itself.post("/api/v1/hooks/gitlab", json={"build_id": 1}, headers=headers)
        assert answer.status_code == 204
        headers["X-Gitlab-Token"] += "x"
        assert (await gitlab_itself.post("/api/v1/hooks/gitlab", headers=headers)).status_code == 401
