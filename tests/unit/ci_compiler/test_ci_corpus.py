"""A corpus of configurations: each becomes the pipeline, or gets the errors, that GitLab's documentation says.

Source: doc/ci/yaml/_index.md, doc/ci/variables/, doc/ci/inputs/, spec/lib/gitlab/ci/yaml_processor_spec.rb and
spec/lib/gitlab/ci/config/ of GitLab; the expectations are written by hand.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from nautilus_forge.ci import document
from nautilus_forge.ci.compiler import compile_pipeline
from nautilus_forge.ci.entries import keywords
from nautilus_forge.ci.lint import lint
from nautilus_forge.ci.model import CiConfigError, NoPipeline
from nautilus_forge.ci.values import Reference
from nautilus_forge.testing import ci_corpus as corpus

FOLDER = Path(__file__).parent / "corpus"
CASES = list(corpus.expectations(FOLDER))
COMPILED = [case for case in CASES if "pipeline" in case.outcome]
FOLDERS = corpus.folders(FOLDER)


def outcome_of(case: corpus.Expectation) -> dict[str, Any]:
    try:
        pipeline = compile_pipeline(case.text, corpus.context_for(case))
    except CiConfigError as error:
        return {"errors": [corpus.placed(one) for one in error.errors]}
    except NoPipeline as error:
        return {"no_pipeline": str(error)}
    return {"pipeline": corpus.described(pipeline)}


def test_there_are_enough_configurations():
    assert len(FOLDERS) >= 60


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_configuration_becomes_what_is_expected(case):
    found = outcome_of(case)
    assert found == case.outcome, case.about
    if "pipeline" in found:
        assert list(found["pipeline"]["jobs"]) == list(case.outcome["pipeline"]["jobs"]), "in the same order"


@pytest.mark.parametrize("case", COMPILED, ids=str)
def test_the_merged_configuration_is_the_same_pipeline(case):
    context = corpus.context_for(case)
    once = lint(case.text, context)
    assert once.valid
    again = lint(once.merged_yaml, dataclasses.replace(context, inputs={}))
    assert (again.valid, again.jobs) == (True, once.jobs)
    assert again.merged_yaml == once.merged_yaml


@pytest.fixture(scope="module")
def schema() -> jsonschema_rs.Validator:
    folder = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    return jsonschema_rs.Draft7Validator((folder / "gitlab-ci.json").read_text(), validate_formats=False)


def plain(value: Any) -> Any:
    """The value as JSON has it: a reference is its path."""
    if isinstance(value, Reference):
        return list(value.path)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def complaints(folder: Path, schema: jsonschema_rs.Validator) -> list[str]:
    """What GitLab's schema has against the configuration and the files that it includes."""
    found = []
    for path in sorted(folder.rglob("*.yml")):
        if path.name == corpus.EXPECTED or path.name.startswith("broken"):
            continue
        try:
            documents = document.load(corpus.read(path), path.name)
        except CiConfigError as error:
            found.append(str(error))
            continue
        found += [error.message for one in documents for error in schema.iter_errors(plain(one))]
    return found


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_gitlabs_schema_agrees(folder, schema):
    found = complaints(folder, schema)
    assert bool(found) is corpus.is_refused_by_the_schema(folder), found


Seen = set[tuple[str, str]]


@pytest.fixture
def seen(monkeypatch) -> Seen:
    """Every keyword that the entries are asked about, by the name of their table."""
    found: Seen = set()
    strays = keywords.Keywords.strays

    def record(table: keywords.Keywords, value: Iterable[Any]) -> tuple[list[Any], list[str]]:
        found.update((table.name, key) for key in value if isinstance(key, str))
        return strays(table, value)

    monkeypatch.setattr(keywords.Keywords, "strays", record)
    return found


INCLUDE = ("root", "include")
"""Is carried out before the first level is read; its own keywords are looked for."""


def test_each_keyword_is_in_the_corpus(seen):
    for case in CASES:
        outcome_of(case)
    wanted = {(table.name, key) for table in keywords.ALL for key in (*table.known, *table.refused)} - {
        INCLUDE
    }
    assert wanted - seen == set()


def test_each_carried_out_keyword_is_in_a_configuration_that_compiles(seen):
    for case in COMPILED:
        outcome_of(case)
    without_meaning = {("workflow:rules", key) for key in ("start_in", "allow_failure", "needs")}
    wanted = (
        {(table.name, key) for table in keywords.ALL for key in table.known} - without_meaning - {INCLUDE}
    )
    assert wanted - seen == set()


def test_each_refused_keyword_is_refused_by_name():
    told = {
        error["message"].removesuffix(" is not supported by this server yet").rpartition(":")[2]
        for case in CASES
        for error in case.outcome.get("errors", ())
        if error["message"].endswith("is not supported by this server yet")
    }
    assert {key for table in keywords.ALL for key in table.refused} - told == set()
