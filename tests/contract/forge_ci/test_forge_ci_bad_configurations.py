"""Configurations that are no configurations: GitLab's own answer, no 5xx, and the push is not lost.

Source: spec/requests/api/lint_spec.rb, spec/services/ci/create_pipeline_service_spec.rb, doc/api/lint.md.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from gitlab.v4.objects import Project

Push = Callable[..., Any]

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
)
JOB = "job: {script: x}\n"
BAD = {
    "bomb": (f"{BOMB}{JOB}", "The parsed YAML is too big"),
    "deep": (f"deep: {'[' * 5_000}{']' * 5_000}\n{JOB}", "The parsed YAML is too big"),
    "tabs": ("job:\n\tscript: x\n", "found character that cannot start any token"),
    "text": ("nothing but a text\n", "Invalid configuration format"),
    "date": (f"variables: {{A: 2024-01-31}}\n{JOB}", "Tried to load unspecified class: Date"),
    "extends": (
        "a: {extends: b, script: x}\nb: {extends: a}\n",
        "circular dependency detected in `extends`",
    ),
    "needs": ("a: {script: x, needs: [b]}\nb: {script: x, needs: [a]}\n", "circular dependencies"),
    "include": (f"include: .gitlab-ci.yml\n{JOB}", "nested includes are allowed"),
    "regex": (
        f"{JOB}  \nother: {{script: x, coverage: /(((/}}\n",
        "must be a regular expression with re2 syntax",
    ),
    "options": (
        f"variables: {{A: {{value: x, options: 5}}}}\n{JOB}",
        "options should be an array of strings",
    ),
    "reference": (
        ".a: {script: [!reference [.a, script]]}\njob: {script: !reference [.a, script]}\n",
        "is part of a circular chain",
    ),
}


def test_lint_says_what_is_wrong(admin: httpx.Client, project: Project, push: Push) -> None:
    push(BAD["include"][0])
    for text, message in BAD.values():
        assert_told(admin.post(f"/projects/{project.id}/ci/lint", json={"content": text}), message)


def test_a_push_makes_a_pipeline_that_failed_and_lint_says_the_same(
    admin: httpx.Client, project: Project, push: Push
) -> None:
    for name in ("bomb", "tabs", "include", "options"):
        text, message = BAD[name]
        pipeline = push(text)
        assert pipeline.status == "failed"
        assert message in pipeline.yaml_errors
        assert_told(admin.get(f"/projects/{project.id}/ci/lint"), message)


def assert_told(answer: httpx.Response, message: str) -> None:
    assert (answer.status_code, answer.json()["valid"]) == (200, False)
    assert any(message in error for error in answer.json()["errors"]), answer.json()["errors"]


@pytest.mark.parametrize(
    "content",
    [
        JOB.encode() + b"# \xff\xfe not UTF-8\n",
        JOB.encode() + b"other: {script: a\x00b}\n",
        JOB.encode() + b"other: {script: \xed\xa0\x80}\n",
        b"\xef\xbb\xbf" + JOB.encode(),
        JOB.replace("\n", "\r\n").encode(),
    ],
)
def test_any_bytes_can_be_pushed(project: Project, push: Push, admin: httpx.Client, content: bytes) -> None:
    action = {"action": "create", "file_path": ".gitlab-ci.yml", "encoding": "base64"}
    project.commits.create(
        {
            "branch": "main",
            "commit_message": "bytes",
            "actions": [{**action, "content": base64.b64encode(content).decode()}],
        }
    )
    (pipeline,) = project.pipelines.list(all=True)
    shown = project.pipelines.get(pipeline.id)
    assert shown.status in ("pending", "created", "failed")
    assert (shown.status == "failed") is (shown.yaml_errors is not None)
    assert admin.get(f"/projects/{project.id}/ci/lint").status_code == 200


def test_a_very_large_file_is_told_to_be_too_large(project: Project, push: Push, admin: httpx.Client) -> None:
    push(JOB)
    large = JOB + "# " + "x" * (5 << 20)
    linted = admin.post(f"/projects/{project.id}/ci/lint", json={"content": large})
    assert linted.status_code in (200, 413)
    if linted.status_code == 200:
        assert linted.json()["valid"] is False
    assert push(large).status == "failed"


def test_what_the_compiler_raises_of_a_context_is_told(project: Project, push: Push) -> None:
    circle = push("variables: {A: $B, B: $A}\njob: {script: x}\n")
    assert 'job: circular variable reference detected: ["A", "B"]' in circle.yaml_errors
    gone = push("job: {script: x, rules: [{changes: {paths: [a], compare_to: gone}}]}\n")
    assert "Failed to parse rule for job: rules:changes:compare_to is not a valid ref" in gone.yaml_errors
    assert (
        "Project `nobody/nothing` not found or access denied!"
        in push(f"include: {{project: nobody/nothing, file: a.yml}}\n{JOB}").yaml_errors
    )


def test_changes_are_compared_with_a_ref(project: Project, push: Push) -> None:
    rules = "rules: [{changes: {paths: [src/*], compare_to: main}}]"
    push(f"job: {{script: x}}\nchanged: {{script: y, {rules}}}\n", **{"readme": "a"})
    push(f"job: {{script: x}}\nchanged: {{script: y, {rules}}}\n", branch="topic", **{"src/a.py": "a"})
    later = push(f"job: {{script: z}}\nchanged: {{script: y, {rules}}}\n", branch="topic")
    assert {job.name for job in later.jobs.list(all=True)} == {"job", "changed"}
    on_main = push(f"job: {{script: z}}\nchanged: {{script: y, {rules}}}\n")
    assert {job.name for job in on_main.jobs.list(all=True)} == {"job"}


def test_a_project_without_commits_can_lint_what_it_is_given(admin: httpx.Client, project: Project) -> None:
    good = admin.post(f"/projects/{project.id}/ci/lint", json={"content": JOB, "include_jobs": True})
    assert (good.status_code, good.json()["valid"]) == (200, True)
    assert [job["name"] for job in good.json()["jobs"]] == ["job"]
    assert_told(
        admin.post(f"/projects/{project.id}/ci/lint", json={"content": BAD["tabs"][0]}), BAD["tabs"][1]
    )
    stored = admin.get(f"/projects/{project.id}/ci/lint")
    assert (stored.status_code, stored.json()) == (404, {"message": "404 Repository Not Found"})
