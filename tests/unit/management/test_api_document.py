"""docs/reference/api.md names every error code, field, event and order."""

from __future__ import annotations

import re
from pathlib import Path

import nautilus.errors
from nautilus.errors import NautilusError
from nautilus.experiments import queries
from nautilus.experiments.schemas import ExperimentView, Resources, Submission
from nautilus.projects.schemas import ProjectView
from nautilus.runners.schemas import RunnerView

TEXT = (Path(__file__).parents[3] / "docs" / "reference" / "api.md").read_text()
WORDS = set(re.findall(r"[a-z_]+", TEXT))


def errors() -> list[type[NautilusError]]:
    return [
        kind
        for kind in vars(nautilus.errors).values()
        if isinstance(kind, type) and issubclass(kind, NautilusError)
    ]


def test_every_error_code_is_listed_with_its_status() -> None:
    for kind in errors():
        row = next(line for line in TEXT.splitlines() if f"`{kind.code}`" in line)
        assert row.startswith(f"| {kind.status} |"), kind


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = dict(re.findall(r"(\w+) +\d{3} (\w+)", nautilus.errors.__doc__ or ""))
    assert drawn == {kind.__name__: kind.code for kind in errors()}


def test_every_field_is_named() -> None:
    for model in (ExperimentView, Submission, Resources, ProjectView, RunnerView):
        assert model.model_fields.keys() <= WORDS, model


def test_every_order_is_named() -> None:
    assert set(queries._COLUMNS) <= WORDS
