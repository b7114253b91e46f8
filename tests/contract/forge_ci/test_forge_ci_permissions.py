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
