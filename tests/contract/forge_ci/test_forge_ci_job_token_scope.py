"""How far a job's token reaches.

Source: GitLab spec/requests/api/ci_job_token_scope_spec.rb, doc/ci/jobs/ci_job_token.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gitlab
import httpx
import pytest
from gitlab.v4.objects import Project

from nautilus_forge.testing.runner import FakeRunner, register

Push = Callable[..., Any]


@pytest.fixture
def other(root: gitlab.Gitlab, project: Project) -> Project:
    """A private project that no job of `project` has anything to do with, yet."""
    made = root.projects.create({"name": f"other {project.id}", "initialize_with_readme": True})
    made.commits.create(
        {
            "branch": "main",
            "commit_message": "ci",
            "actions": [{"action": "create", "file_path": ".gitlab-ci.yml", "content": "a: {script: [b]}"}],
        }
    )
    return made


def test_a_token_reaches_its_own_project_and_those_that_let_it_in(
    project: Project, other: Project, push: Push, runner: FakeRunner, http: httpx.Client
) -> None:
    push()
    http.headers["JOB-TOKEN"] = runner.take_one().token
    assert http.get(f"/projects/{project.id}/jobs").status_code == 200
    assert http.get(f"/projects/{other.id}/jobs").status_code == 404
    link = other.job_token_scope.get().allowlist.create({"target_project_id": project.id})
    assert link.source_project_id == other.id
    assert http.get(f"/projects/{other.id}/jobs").status_code == 200
    fired = http.post(
        f"/projects/{other.id}/trigger/pipeline",
        data={"token": http.headers["JOB-TOKEN"], "ref": "main"},
    )
    assert fired.status_code == 201
    other.job_token_scope.get().allowlist.delete(project.id)
    assert http.get(f"/projects/{other.id}/jobs").status_code == 404


def test_a_group_is_let_in_with_all_below_it(
    root: gitlab.Gitlab, project: Project, other: Project, http: httpx.Client, admin: httpx.Client
) -> None:
    group = root.groups.create({"name": f"outer{project.id}", "path": f"outer{project.id}"})
    inner = root.groups.create({"name": "inner", "path": "inner", "parent_id": group.id})
    inside = root.projects.create({"name": "inside", "namespace_id": inner.id})
    token = admin.post(f"/projects/{inside.id}/runners/reset_registration_token").json()["token"]
    inside.commits.create(
        {
            "branch": "main",
            "commit_message": "ci",
            "actions": [{"action": "create", "file_path": ".gitlab-ci.yml", "content": "a: {script: [b]}"}],
        }
    )
    job = register(str(http.base_url).removesuffix("/api/v4/"), token).take_one()
    http.headers["JOB-TOKEN"] = job.token
    scope = other.job_token_scope.get()
    assert http.get(f"/projects/{other.id}/jobs").status_code == 404
    scope.groups_allowlist.create({"target_group_id": group.id})
    assert [g.id for g in scope.groups_allowlist.list(all=True)] == [group.id]
    assert http.get(f"/projects/{other.id}/jobs").status_code == 200
    scope.groups_allowlist.delete(group.id)
    assert http.get(f"/projects/{other.id}/jobs").status_code == 404


def test_the_limit_can_be_switched_off(
    project: Project, other: Project, push: Push, runner: FakeRunner, http: httpx.Client
) -> None:
    scope = other.job_token_scope.get()
    assert (scope.inbound_enabled, scope.outbound_enabled) == (True, False)
    scope.enabled = False
    scope.save()
    assert other.job_token_scope.get().inbound_enabled is False
    push()
    http.headers["JOB-TOKEN"] = runner.take_one().token
    assert http.get(f"/projects/{other.id}/jobs").status_code == 200


def test_what_is_refused(project: Project, other: Project, admin: httpx.Client, http: httpx.Client) -> None:
    url = f"/projects/{project.id}/job_token_scope"
    assert admin.post(f"{url}/allowlist", json={"target_project_id": other.id}).status_code == 201
    again = admin.post(f"{url}/allowlist", json={"target_project_id": other.id})
    assert again.json() == {"message": "400 Bad request - Target project is already in the job token scope"}
    assert admin.post(f"{url}/allowlist", json={"target_project_id": project.id}).status_code == 400
    assert admin.post(f"{url}/allowlist", json={"target_project_id": 0}).status_code == 404
    assert admin.delete(f"{url}/allowlist/{project.id}").status_code == 400
    assert admin.delete(f"{url}/groups_allowlist/999999").status_code == 404
    assert admin.patch(url, json={}).json() == {"error": "enabled is missing"}
    listed = admin.get(f"{url}/allowlist").json()
    assert [p["id"] for p in listed] == [project.id, other.id]
    assert http.get(url).status_code == 401
