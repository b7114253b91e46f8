"""docs/reference/tracking.md says what there is."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from nautilus.tracking import errors
from nautilus.tracking.routes import MODELS, OPEN, ROUTES

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "tracking.md").read_text()
TWO = "/api/2.0/mlflow/"


def _endpoints() -> set[tuple[str, str]]:
    """(method, path) of each endpoint that the page's table names."""
    found: set[tuple[str, str]] = set()
    for row in re.findall(r"^\| (`(?:GET|POST|PUT|PATCH|DELETE|HEAD).*?) \|", PAGE, re.M):
        methods: list[str] = []
        for word in re.findall(r"GET|POST|PUT|PATCH|DELETE|HEAD|[\w/{}.-]*/[\w/{}…-]*|logged-models\b", row):
            if word.isupper():
                methods.append(word)
            elif word != "/":
                path = word if word.startswith("/") else TWO + word
                found |= {(method, path.rstrip("?")) for method in methods}
                methods = []
    return found


def test_every_endpoint_is_documented_and_no_other() -> None:
    table = set(ROUTES) | {("GET", path) for path in OPEN}
    names = {"": "", "tags": "/tags", "params": "/params", "artifacts": "/artifacts/directories"}
    for method, name in MODELS:
        key = "/{key}" if (method, name) == ("DELETE", "tags") else ""
        table.add((method, f"{TWO}logged-models/{{model_id}}{names[name]}{key}"))
    documented = {(method, path) for method, path in _endpoints() if "…" not in path and "{path}" not in path}
    assert documented == table


@pytest.mark.parametrize(
    "error",
    [e for _, e in inspect.getmembers(errors, inspect.isclass) if issubclass(e, errors.TrackingError)],
)
def test_every_error_is_documented(error: type[errors.TrackingError]) -> None:
    assert re.search(rf"^\| {error.status} \|.*`{error.code}`", PAGE, re.M), error
