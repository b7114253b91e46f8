"""The pages' pure parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nautilus_forge.projects import naming
from nautilus_forge.users.service import username_problems
from nautilus_forge.web.page import origin_of, page
from nautilus_forge.web.routes import local_path


@given(st.text(max_size=40))
def test_a_return_path_never_leaves_us(text: str) -> None:
    path = local_path(text)
    assert path.startswith("/")
    assert not path.startswith(("//", "/\\"))
    assert path == "/" or path == text


def test_a_return_path_is_kept() -> None:
    assert (
        local_path("/oauth/authorize?client_id=a&state=b%2Fc") == "/oauth/authorize?client_id=a&state=b%2Fc"
    )


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://localhost:8080/callback", "http://localhost:8080"),
        ("myapp:/callback", "myapp:"),
        ("http://x/; script-src *", None),
        ("nonsense", None),
    ],
)
def test_origins_for_the_policy(url: str, origin: str | None) -> None:
    assert origin_of(url) == origin


def test_forms_lead_where_the_policy_says() -> None:
    policy = page("T", "", form_targets=["http://a:1/x", "http://a:1/y"]).headers["Content-Security-Policy"]
    assert "form-action 'self' http://a:1;" in policy


@pytest.mark.parametrize(
    ("name", "path"),
    [("My Digits!", "my-digits"), ("Über Größe", "uber-groe"), ("a  b", "a-b"), ("x_y", "x_y")],
)
def test_paths_come_from_names(name: str, path: str) -> None:
    assert naming.path_of_name(name) == path


@pytest.mark.parametrize("path", ["digits", "a.b", "A-1", "x_y", "1"])
def test_good_paths(path: str) -> None:
    assert naming.path_problems(path) == []


@pytest.mark.parametrize(
    "path", ["", "-a", "a-", "a.git", "a.atom", "a..b", "a/b", "ä", "x" * 256, "-", "a b"]
)
def test_bad_paths(path: str) -> None:
    assert naming.path_problems(path)


@pytest.mark.parametrize("name", ["root", "a.b", "x-y_z", "1"])
def test_good_user_names(name: str) -> None:
    assert username_problems(name) == []


@pytest.mark.parametrize("name", ["", "-a", "a.", "a.git", "a/b", "api", "OAuth", "a b", "ä"])
def test_bad_user_names(name: str) -> None:
    assert username_problems(name)


@pytest.mark.parametrize(
    ("path", "good"), [("ci/a.yml", True), (None, True), ("/a.yml", False), ("../a.yml", False)]
)
def test_ci_paths_stay_inside(path: str | None, good: bool) -> None:
    assert (naming.ci_path_problems(path) == []) is good
