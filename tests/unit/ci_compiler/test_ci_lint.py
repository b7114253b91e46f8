"""`ci/lint`. Source: spec/lib/gitlab/ci/lint_spec.rb, doc/api/lint.md."""

from __future__ import annotations

import pytest

from nautilus_forge.ci.lint import lint
from nautilus_forge.testing.ci_context import context_of

VALID = """
.base: {image: python, variables: {A: a}}
build: {extends: .base, stage: build, script: [make], needs: [], tags: [gpu], environment: prod}
never: {script: x, when: manual, rules: [{if: $NO}]}
"""


def test_a_valid_configuration_lists_all_of_its_jobs():
    result = lint(VALID, context_of())
    assert (result.valid, result.errors) == (True, ())
    assert [job.name for job in result.jobs] == ["build", "never"]
    body = result.as_json(include_jobs=True)
    assert body["jobs"][0] == {
        "name": "build",
        "stage": "build",
        "before_script": [],
        "script": ["make"],
        "after_script": [],
        "tag_list": ["gpu"],
        "environment": "prod",
        "when": "on_success",
        "allow_failure": False,
        "needs": [],
        "only": None,
        "except": None,
    }
    assert (body["jobs"][1]["when"], body["jobs"][1]["allow_failure"], body["jobs"][1]["needs"]) == (
        "manual",
        True,
        None,
    )
    assert set(lint(VALID, context_of()).as_json()) == {
        "valid",
        "errors",
        "warnings",
        "merged_yaml",
        "includes",
    }


def test_a_dry_run_asks_the_rules():
    assert [job.name for job in lint(VALID, context_of(), dry_run=True).jobs] == ["build"]
    result = lint("j: {script: x, rules: [{if: $NO}]}", context_of(), dry_run=True)
    assert not result.valid
    assert result.as_json()["errors"][0].startswith("Pipeline will not run for the selected trigger.")


def test_the_merged_configuration_is_yaml_again():
    files = {"a.yml": "a: {script: &s [one, two]}\nb: {script: *s, after_script: !reference [a, script]}"}
    result = lint("include: a.yml\nb: {tags: ['yes']}", context_of(files=files))
    assert result.merged_yaml == (
        "---\na:\n  script:\n  - one\n  - two\n"
        "b:\n  script:\n  - one\n  - two\n  after_script:\n  - one\n  - two\n  tags:\n  - 'yes'\n"
    )
    again = lint(result.merged_yaml, context_of())
    assert again.jobs == result.jobs
    assert result.as_json()["includes"] == [
        {"type": "local", "location": "a.yml", "blob": None, "raw": None, "extra": {}}
    ]


@pytest.mark.parametrize(
    ("text", "message", "has_merged_yaml"),
    [
        ("a: b: c", "(<unknown>): mapping values are not allowed in this context at line 1 column 5", False),
        ("j: {script: x, foo: 1}", "jobs:j config contains unknown keys: foo", True),
        ("j: {extends: none, script: x}", "j: unknown keys in `extends` (none)", True),
        ("j: {script: x, needs: [none]}", "j job: undefined need: none", True),
        ("include: none.yml", "Local file `none.yml` does not exist!", False),
    ],
)
def test_mistakes(text, message, has_merged_yaml):
    result = lint(text, context_of())
    assert not result.valid
    assert result.as_json()["errors"] == [message]
    assert (result.merged_yaml is not None) is has_merged_yaml


def test_warnings():
    result = lint("j: {script: x, rules: [{when: always}]}", context_of())
    assert result.valid
    assert len(result.as_json()["warnings"]) == 1
