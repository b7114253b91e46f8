"""Input of any kind gets an answer of GitLab's kind: schemathesis over the forge's OpenAPI description.

Each route gets requests that fit its parameters, with odd values in them, and the same with values of other types.
Nothing may be a 5xx, a refusal says why, and what succeeds is held against GitLab's contract as in every test.
Everything is derived from fixed seeds.
"""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import gitlab
import pytest
import requests
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import APIOperation, Case, GenerationMode, openapi

from nautilus_forge import API_PREFIX
from nautilus_forge.testing.openapi import document
from nautilus_forge.testing.served import TRACE, Served, served
from nautilus_forge.testing.server import ADMIN_TOKEN, RunningForge

NONSENSE: list[Any] = [
    "", "x", "0", "-1", "99999999999999999999", "a" * 3000, "\u202e", "../..", "%00", "'\"<>", "1e9", "null",
    [], {}, [1, [2]], {"a": {"b": []}}, True, None, 1.5, -(2**70), "\U0001f600",
]  # fmt: skip

OWN_TOKEN = "/personal_access_tokens/self"
"""Revoking and rotating what all requests here are sent with is left out."""

FINAL = ("archive", "transfer", "block", "ban", "deactivate", "reject")
"""Ends of paths after which a thing is of no use to the next request: they get names of nothing."""


def _order(route: Served) -> tuple[bool, bool, int]:
    """Deletions come last, the deepest first; before them what changes the whole instance."""
    return route.method == "DELETE", route.path.startswith("/application"), -route.path.count("/")


ROUTES = sorted(
    (r for r in served() if not (r.path.startswith(OWN_TOKEN) and r.method != "GET") and r is not TRACE),
    key=_order,
)


def _parts(most: int = 25) -> dict[str, list[Served]]:
    """The routes by what their paths begin with, in parts of a few seconds each."""
    areas: dict[str, list[Served]] = {}
    for route in ROUTES:
        areas.setdefault(route.path.split("/")[1], []).append(route)
    return {
        f"{area} {begin // most}": routes[begin : begin + most]
        for area, routes in sorted(areas.items())
        for begin in range(0, len(routes), most)
    }


PARTS = _parts()


@pytest.fixture(scope="module")
def known(module_forge: RunningForge) -> dict[str, str]:
    """A project with a commit, a merge request and a pipeline, a user, a group: what path parameters name."""
    root = gitlab.Gitlab(module_forge.url, private_token=ADMIN_TOKEN, keep_base_url=True)
    user = root.users.create(
        {"username": "ada", "name": "Ada", "email": "ada@example.com", "password": "ada has a password"}
    )
    group = root.groups.create({"name": "team", "path": "team"})
    project = root.projects.create({"name": "digits", "initialize_with_readme": True})
    commit = project.commits.create(
        {
            "branch": "topic",
            "start_branch": "main",
            "commit_message": "CI",
            "actions": [
                {"action": "create", "file_path": ".gitlab-ci.yml", "content": "hello: {script: [echo]}\n"}
            ],
        }
    )
    request = project.mergerequests.create({"source_branch": "topic", "target_branch": "main", "title": "CI"})
    pipeline = project.pipelines.list(get_all=False)[0]
    project.variables.create({"key": "NAME", "value": "value"})
    ids = {
        "projects": str(project.id), "groups": str(group.id), "users": str(user.id), "namespaces": "root",
        "pipelines": str(pipeline.id), "jobs": str(pipeline.jobs.list(get_all=False)[0].id),
        "merge_requests": str(request.iid), "branches": "topic", "commits": commit.id, "files": "README.md",
        "variables": "NAME", "members": str(user.id), "protected_branches": "main", "blobs": commit.id,
    }  # fmt: skip
    return ids | {"all": str(user.id)}


class _Known(dict[str, list[str]]):
    """By what stands before the parameter, whatever the parameter is called."""

    def __init__(self, ids: dict[str, str]) -> None:
        super().__init__({name: [value] for name, value in ids.items()})

    def get(self, key: str, default: Any = None) -> Any:
        return super().get(key.partition("/")[0], default)


def _operations(routes: Iterable[Served], ids: dict[str, str]) -> list[APIOperation[Any, Any, Any]]:
    """The operations of the routes, in their order; what ends a thing gets no name of one."""
    found = []
    for route in routes:
        is_final = route.path.endswith(FINAL) or (route.method == "DELETE" and route.path.endswith("}"))
        names = {key: value for key, value in ids.items() if not is_final or key not in _last(route)}
        schema = openapi.from_dict(document([route], _Known(names)))
        found += [result.ok() for result in schema.get_all_operations()]
    return found


def _last(route: Served) -> list[str]:
    """What stands before the last parameter of the path."""
    parts = [part for part in route.path.split("/") if part]
    places = [number for number, part in enumerate(parts) if part.startswith("{")]
    return [parts[places[-1] - 1]] if places else []


def _cases(operation: APIOperation[Any, Any, Any], count: int, mode: GenerationMode) -> list[Case]:
    cases: list[Case] = []

    @seed(zlib.crc32(operation.label.encode()))
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def collect(case: Case) -> None:
        cases.append(case)

    collect()
    return cases


def _send(session: requests.Session, forge: RunningForge, case: Case) -> None:
    answer = case.call(
        base_url=forge.url, session=session, headers={"PRIVATE-TOKEN": ADMIN_TOKEN}, timeout=30
    )
    assert answer.status_code < 500, f"{case.as_curl_command()}\n{answer.status_code} {answer.text}"
    if answer.status_code >= 400 and case.method != "HEAD":
        assert answer.json().keys() & {"message", "error"}, f"{case.as_curl_command()}\n{answer.text}"


def _send_nonsense(
    session: requests.Session, forge: RunningForge, route: Served, ids: dict[str, str]
) -> None:
    """Values of any type in the route's own parameters, and in those that most routes have."""
    chance = random.Random(str(route))
    names = sorted(route.parameters | {"id", "name", "page", "sudo"})
    values = {name: chance.choice(NONSENSE) for name in chance.sample(names, min(8, len(names)))}
    path = route.path
    for name in route.path_parameters:
        place = path.partition("{" + name + "}")[0].strip("/").split("/")[-1]
        is_spared = route.method == "DELETE" or route.path.endswith(FINAL)
        fill = chance.choice([ids.get(place, "1") if not is_spared else "999", "x", "-1", "ä", "9" * 30])
        path = path.replace("{" + name + "}", quote(fill, safe=""))
    is_query = route.method in ("GET", "HEAD")
    answer = session.request(
        route.method,
        forge.url + API_PREFIX + path,
        headers={"PRIVATE-TOKEN": ADMIN_TOKEN},
        json=None if is_query else values,
        params={name: str(value) for name, value in values.items()} if is_query else None,
        timeout=30,
    )
    assert answer.status_code < 500, (str(route), path, values, answer.text)
    if answer.status_code >= 400 and route.method != "HEAD":
        assert answer.json().keys() & {"message", "error"}, (str(route), path, values, answer.text)


@pytest.mark.parametrize("part", PARTS)
def test_requests_that_fit_and_requests_that_do_not(
    module_forge: RunningForge, known: dict[str, str], part: str
) -> None:
    routes = PARTS[part]
    with requests.Session() as session:
        for operation in _operations(routes, known):
            for case in _cases(operation, 2, GenerationMode.POSITIVE):
                _send(session, module_forge, case)
        for operation in _operations(routes, {}):
            for case in _cases(operation, 2, GenerationMode.POSITIVE):
                _send(session, module_forge, case)
        for route in routes:
            _send_nonsense(session, module_forge, route, known)


@pytest.mark.drill
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_minutes_of_it(module_forge: RunningForge, known: dict[str, str], mode: GenerationMode) -> None:
    """As much as goes into two minutes, route after route in an order of its own."""
    end = time.monotonic() + 120
    routes = [route for route in ROUTES if mode is GenerationMode.POSITIVE or route.parameters]
    random.Random(7).shuffle(routes)
    sent = 0
    with requests.Session() as session:
        for operation in _operations(sorted(routes, key=_order), known):
            for case in _cases(operation, 8, mode):
                _send(session, module_forge, case)
                sent += 1
            if time.monotonic() > end:
                break
    assert sent > 100
