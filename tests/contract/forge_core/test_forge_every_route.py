"""What holds for every route of the API: nobody gets in by accident, and what is not served says so."""

from __future__ import annotations

import re

import gitlab
import pytest
import requests
from fastapi.routing import APIRoute

from nautilus_forge.api import api_routers
from nautilus_forge.testing import reference
from nautilus_forge.testing.contract import Contract
from nautilus_forge.testing.served import served
from nautilus_forge.testing.server import ADMIN_TOKEN, RunningForge

ROUTES = sorted(
    {
        (method, route.path)
        for router in api_routers()
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }
)

OPEN = {
    ("GET", "/groups"),
    ("GET", "/projects"),
    ("GET", "/topics"),
    ("GET", "/users"),
    ("GET", "/users/{user_id}/projects"),
    ("GET", "/users/{user_id}/starred_projects"),
    ("GET", "/users/{user_id}/contributed_projects"),
    ("GET", "/users/{id}/events"),
    ("GET", "/users/{user_id}/keys"),
}
"""Lists that show anybody what is public (`/users` only for one `username`)."""

KNOWN_TO_ALL = {("GET", "/users/{id}/status")}
"""What GitLab shows to anybody."""

BY_OWN_TOKEN = re.compile(r"^/(runners|jobs|user/runners|ci/lint|job$)")
"""The runner protocol and other CI routes that carry a token of their own; their tests are the CI half's."""


@pytest.fixture(scope="module")
def filled_forge(module_forge: RunningForge) -> RunningForge:
    """All cases share it: they change nothing that another would notice."""
    root = gitlab.Gitlab(module_forge.url, private_token=ADMIN_TOKEN)
    root.projects.create({"name": "digits", "initialize_with_readme": True})
    return module_forge


def path_with(template: str, fill: str) -> str:
    return re.sub(r"\{[^}]*\}", fill, template)


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if not BY_OWN_TOKEN.match(route[1])])
def test_nobody_gets_in_without_a_token(filled_forge: RunningForge, method: str, path: str) -> None:
    answer = requests.request(method, f"{filled_forge.url}/api/v4{path_with(path, '1')}", timeout=20)
    if (method, path) in OPEN and answer.status_code == 200:
        assert answer.json() == []
    elif (method, path) in KNOWN_TO_ALL:
        assert (answer.status_code, answer.json()["message"]) == (200, None)
    else:
        assert answer.status_code in (400, 401, 403, 404), answer.text


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'"x"', b"\xff\xfe", b"{" * 2000, b'{"name": "\\u0000"}', b'{"name": "\\ud800"}', b"null"],
)
def test_bodies_that_are_no_parameters(filled_forge: RunningForge, body: bytes) -> None:
    answer = requests.post(
        f"{filled_forge.url}/api/v4/projects",
        data=body,
        headers={"PRIVATE-TOKEN": ADMIN_TOKEN, "Content-Type": "application/json"},
        timeout=20,
    )
    assert answer.status_code == 400
    assert answer.json().keys() & {"message", "error"}


def test_what_is_not_served_answers_as_the_reference_says(filled_forge: RunningForge) -> None:
    table = reference.rows(Contract.load(reference.DATA), served())
    refused = {row.route: row.support for row in table if row.kind == "no"}
    assert refused
    with requests.Session() as session:
        session.headers["PRIVATE-TOKEN"] = ADMIN_TOKEN
        for route, support in refused.items():
            method, path = route.split(" ", 1)
            answer = session.request(
                method, f"{filled_forge.url}/api/v4{reference.example(path)}", timeout=20
            )
            if support in ("404", "405"):
                error = {"404": "404 Not Found", "405": "405 Not Allowed"}[support]
                assert answer.status_code == int(support), route
                assert method == "HEAD" or answer.json() == {"error": error}, route
            else:
                assert 400 <= answer.status_code < 500, route


@pytest.mark.parametrize(
    "path", ["branches/main", "files/README.md?ref=main", "files/README.md/blame?ref=main"]
)
def test_who_asks_for_the_head_alone_gets_no_body(filled_forge: RunningForge, path: str) -> None:
    url = f"{filled_forge.url}/api/v4/projects/root%2Fdigits/repository/{path}"
    answer = requests.head(url, headers={"PRIVATE-TOKEN": ADMIN_TOKEN}, timeout=20)
    assert (200 <= answer.status_code < 300, answer.content) == (True, b""), answer.status_code
