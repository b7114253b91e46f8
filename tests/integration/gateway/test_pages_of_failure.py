"""Where a part does not answer, the gateway says which: a page for people, JSON for programs."""

from __future__ import annotations

import re

import httpx
import pytest

from nautilus_gateway.testing.stack import Stack
from nautilus_gateway.testing.stand_in import StandIn, serving

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture
def without_management(fresh_stack: Stack) -> Stack:
    fresh_stack.management.socket.unlink()
    return fresh_stack


def test_a_browser_gets_a_page_that_asks_again(without_management: Stack) -> None:
    answer = httpx.get(without_management.web + "/experiments/7", headers=BROWSER)

    assert answer.status_code == 503
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["retry-after"] == "1"
    assert "<strong>management</strong>" in answer.text
    assert '<meta http-equiv="refresh" content="1">' in answer.text


def test_the_page_needs_nothing_else_and_forbids_it(without_management: Stack) -> None:
    answer = httpx.get(without_management.web + "/", headers=BROWSER)

    assert not re.search(r"https?://|src=|href=|url\(|@import|<script", answer.text)
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/", "/-/health", "/api/v1/projects"])
def test_a_program_gets_json_in_the_shape_of_health(without_management: Stack, path: str) -> None:
    answer = httpx.get(without_management.web + path)

    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["ready"] is False
    states = {part["name"]: part["state"] for part in answer.json()["components"]}
    assert states == {"gateway": "ready", "management": "down"}


def test_health_on_the_gitlab_port_names_management_and_the_rest_names_the_forge(fresh_stack: Stack) -> None:
    stack = fresh_stack
    stack.management.socket.unlink()
    stack.forge.socket.unlink()

    parts = [
        httpx.get(stack.gitlab + path).json()["components"][1]["name"]
        for path in ("/-/health", "/api/v4/version")
    ]

    assert parts == ["management", "forge"]


def test_a_post_to_a_dead_service_is_told_the_same(without_management: Stack) -> None:
    answer = httpx.post(without_management.web + "/api/v1/experiments", json={"project": 1})

    assert (answer.status_code, answer.json()["code"]) == (503, "service_unavailable")


def test_a_service_says_its_own_errors_itself(stack: Stack) -> None:
    """Only nginx's own failures have the gateway's pages."""
    answer = httpx.get(f"{stack.gitlab}/group/project.git/info/refs?service=git-upload-pack", headers=BROWSER)

    assert answer.text == "HTTP Basic: Access denied."


def test_a_service_that_comes_back_is_used_at_once(without_management: Stack) -> None:
    assert httpx.get(without_management.web + "/x").status_code == 503

    with serving(StandIn(without_management.management.socket, without_management.home / "management")):
        assert httpx.get(without_management.web + "/x").status_code == 200
