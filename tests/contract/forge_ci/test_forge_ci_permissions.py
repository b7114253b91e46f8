"""Who may start, end, erase and read what, by ref, owner and configuration.

Source: GitLab spec/policies/ci/{build,pipeline}_policy_spec.rb, spec/requests/api/ci/job_artifacts_spec.rb.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gitlab
import httpx
import pytest
from gitlab.v4.objects import Project

from nautilus_forge.testing.runner import FakeRunner

Push = Callable[..., Any]
MANUAL = "a: {script: [b]}\nm: {script: [b], when: manual}\n"


@pytest.fixture
def as_level(root: gitlab.Gitlab, project: Project, http: httpx.Client) -> Callable[[int], dict[str, str]]:
    """Headers of a member of this level."""

    def headers(level: int) -> dict[str, str]:
        name = f"u{level}x{project.id}"
        user = root.users.create(
            {"username": name, "name": name, "email": f"{name}@example.org", "force_random_password": True}
        )
        project.members.create({"user_id": user.id, "access_level": level})
        return {"PRIVATE-TOKEN": user.personal_access_tokens.create({"name": "t", "scopes": ["api"]}).token}

    return headers


def test_on_a_protected_branch_developers_start_and_end_nothing(
    project: Project, push: Push, http: httpx.Client, as_level: Callable[[int], dict[str, str]]
) -> None:
    developer = as_level(30)
    pipeline = push(MANUAL)
    jobs = {job.name: job.id for job in pipeline.jobs.list(all=True)}
    at = f"/projects/{project.id}"
    for path in (
        f"{at}/jobs/{jobs['m']}/play",
        f"{at}/jobs/{jobs['a']}/cancel",
        f"{at}/jobs/{jobs['a']}/retry",
        f"{at}/pipelines/{pipeline.id}/cancel",
        f"{at}/pipelines/{pipeline.id}/retry",
    ):
        assert http.post(path, headers=developer).status_code == 403
    topic = push(MANUAL, branch="topic")
    manual = next(job for job in topic.jobs.list(all=True) if job.name == "m")
    assert http.post(f"{at}/jobs/{manual.id}/play", headers=developer).status_code == 200


def test_others_jobs_are_erased_by_maintainers_alone(
    project: Project,
    push: Push,
    runner: FakeRunner,
    http: httpx.Client,
    as_level: Callable[[int], dict[str, str]],
) -> None:
    push()
    runner.run()
    push(branch="topic")
    job = runner.run()
    url = f"/projects/{project.id}/jobs/{job.id}/erase"
    assert http.post(url, headers=as_level(30)).status_code == 403
    assert http.post(url, headers=as_level(40)).status_code == 201
    assert project.jobs.get(job.id).erased_at is not None


@pytest.mark.parametrize(
    ("declared", "guest", "developer"),
    [
        ("", 200, 200),
        ("public: false, ", 403, 200),
        ("access: maintainer, ", 403, 403),
        ("access: none, ", 403, 403),
    ],
)
def test_artifacts_are_for_whom_the_job_says(
    project: Project,
    push: Push,
    runner: FakeRunner,
    http: httpx.Client,
    as_level: Callable[[int], dict[str, str]],
    declared: str,
    guest: int,
    developer: int,
) -> None:
    push(f"a: {{script: [b], artifacts: {{{declared}paths: [x]}}}}")
    job = runner.take_one()
    job.upload(b"PK\x05\x06" + b"\0" * 18).raise_for_status()
    job.finish()
    url = f"/projects/{project.id}/jobs/{job.id}/artifacts"
    assert http.get(url, headers=as_level(10)).status_code == guest
    assert http.get(url, headers=as_level(30)).status_code == developer


def test_a_dry_run_is_as_if_the_pipeline_were_made(project: Project, push: Push, admin: httpx.Client) -> None:
    push("a: {script: [b], rules: [{if: $CI_COMMIT_BRANCH == 'topic'}]}\nb: {script: [b]}\n")
    push("a: {script: [b]}", branch="topic")
    url = f"/projects/{project.id}/ci/lint"

    def jobs(**params: Any) -> list[str]:
        answer = admin.get(url, params={"include_jobs": True, **params}).json()
        assert answer["valid"], answer
        return [job["name"] for job in answer["jobs"]]

    assert jobs() == ["a", "b"]
    assert jobs(dry_run=True) == ["b"]
    assert jobs(dry_run=True, content_ref="main", dry_run_ref="topic") == ["a", "b"]
    nowhere = admin.get(url, params={"dry_run": True, "dry_run_ref": "nowhere"}).json()
    assert (nowhere["valid"], nowhere["errors"]) == (False, ["Reference not found"])
    given = {"content": "b: {script: [b]}", "dry_run": True, "ref": "topic", "include_jobs": True}
    assert [job["name"] for job in admin.post(url, json=given).json()["jobs"]] == ["b"]
    assert admin.get(url, params={"content_ref": "nowhere"}).status_code == 404


def test_what_is_erased_cannot_be_erased_again(
    project: Project, push: Push, runner: FakeRunner, admin: httpx.Client
) -> None:
    push()
    job = runner.run()
    url = f"/projects/{project.id}/jobs/{job.id}/erase"
    assert [admin.post(url).status_code for _ in range(2)] == [201, 403]


def test_variables_are_given_by_whom_the_project_lets(
    project: Project,
    push: Push,
    admin: httpx.Client,
    http: httpx.Client,
    as_level: Callable[[int], dict[str, str]],
) -> None:
    at = f"/projects/{project.id}"
    push()
    topic = push(MANUAL, branch="topic")
    manual = next(job for job in topic.jobs.list(all=True) if job.name == "m")
    admin.put(at, json={"ci_pipeline_variables_minimum_override_role": "maintainer"}).raise_for_status()
    developer = as_level(30)
    given = {"ref": "topic", "variables": [{"key": "A", "value": "1"}]}
    refused = http.post(f"{at}/pipeline", json=given, headers=developer)
    assert refused.json() == {"message": {"base": ["Insufficient permissions to set pipeline variables"]}}
    played = {"job_variables_attributes": [{"key": "A", "value": "1"}]}
    assert http.post(f"{at}/jobs/{manual.id}/play", json=played, headers=developer).status_code == 403
    assert http.post(f"{at}/pipeline", json={"ref": "topic"}, headers=developer).status_code == 201
    assert admin.post(f"{at}/pipeline", json=given).status_code == 201


def test_a_protected_tag_gets_what_is_protected_and_is_run_by_whom_may_make_it(
    project: Project,
    push: Push,
    runner: FakeRunner,
    http: httpx.Client,
    as_level: Callable[[int], dict[str, str]],
) -> None:
    project.variables.create({"key": "SECRET", "value": "for-releases", "protected": True})
    project.protectedtags.create({"name": "v*", "create_access_level": 40})
    push("a: {script: [b], rules: [{if: $CI_COMMIT_TAG}]}")
    seen = {}
    for name in ("v1", "test-1"):
        project.tags.create({"tag_name": name, "ref": "main"})
        job = runner.run()
        seen[name] = (job.variable("SECRET"), job.variable("CI_COMMIT_REF_PROTECTED"))
    assert seen == {"v1": ("for-releases", "true"), "test-1": (None, "false")}
    developer, url = as_level(30), f"/projects/{project.id}/pipeline"
    refused = http.post(url, json={"ref": "v1"}, headers=developer)
    assert refused.json()["message"] == {
        "base": ["You do not have sufficient permission to run a pipeline on 'v1'"]
    }
    assert http.post(url, json={"ref": "test-1"}, headers=developer).status_code == 201
