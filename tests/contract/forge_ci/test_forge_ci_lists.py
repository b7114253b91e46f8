"""Jobs by keyset and scope, and the variables of groups.

Source: doc/api/rest/_index.md ("Keyset-based pagination"), GitLab spec/requests/api/{ci/jobs,group_variables}_spec.rb,
doc/ci/variables/_index.md "CI/CD variable precedence".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gitlab
import httpx
import pytest
from gitlab.v4.objects import Group, Project

from nautilus_forge.testing.runner import register

Push = Callable[..., Any]


def test_jobs_are_paged_by_keyset(project: Project, push: Push, admin: httpx.Client) -> None:
    push("a: {script: [b], parallel: 5}")
    expected = [job.id for job in project.jobs.list(all=True)]
    url, seen = f"/projects/{project.id}/jobs?pagination=keyset&per_page=2&scope[]=pending", []
    while url:
        answer = admin.get(url)
        seen += [job["id"] for job in answer.json()]
        url = answer.links["next"]["url"] if "next" in answer.links else ""
    assert seen == expected and len(seen) == 5
    by_client = project.jobs.list(iterator=True, pagination="keyset", per_page=2)
    assert [job.id for job in by_client] == expected
    assert admin.get(f"/projects/{project.id}/jobs?pagination=keyset&cursor=nonsense").status_code == 400
    assert project.jobs.list(scope=["success", "failed"], all=True) == []


@pytest.fixture
def group(root: gitlab.Gitlab, project: Project) -> Group:
    return root.groups.create({"name": f"outer{project.id}", "path": f"outer{project.id}"})


def test_one_of_a_group_is_made_read_changed_and_deleted(group: Group, admin: httpx.Client) -> None:
    made = group.variables.create(
        {"key": "KEY_1", "value": "first-value", "masked": True, "environment_scope": "review/*"}
    )
    assert (made.masked, made.protected, made.raw, made.hidden) == (True, False, False, False)
    group.variables.update("KEY_1", {"value": "second-value", "protected": True})
    again = group.variables.get("KEY_1")
    assert (again.value, again.protected, again.environment_scope) == ("second-value", True, "review/*")
    assert [v.key for v in group.variables.list(all=True)] == ["KEY_1"]
    url = f"/groups/{group.id}/variables"
    taken = admin.post(url, json={"key": "KEY_1", "value": "x", "environment_scope": "review/*"})
    assert taken.json()["message"] == {"key": ["(KEY_1) has already been taken"]}
    assert admin.post(url, json={"key": "K", "value": "short", "masked": True}).status_code == 400
    assert admin.post(url, json={"key": "K", "value": "v", "environment_scope": "a?"}).status_code == 400
    hidden = admin.post(url, json={"key": "H", "value": "hidden-value", "masked_and_hidden": True})
    assert (hidden.json()["value"], hidden.json()["hidden"]) == (None, True)
    admin.post(url, json={"key": "KEY_1", "value": "for the rest"}).raise_for_status()
    assert admin.get(f"{url}/KEY_1").status_code == 409
    chosen = admin.get(f"{url}/KEY_1", params={"filter[environment_scope]": "*"})
    assert chosen.json()["value"] == "for the rest"
    group.variables.delete("H")
    with pytest.raises(gitlab.GitlabGetError, match="404 GroupVariable Not Found"):
        group.variables.get("H")


def test_the_nearer_one_wins(
    root: gitlab.Gitlab, group: Group, admin: httpx.Client, http: httpx.Client
) -> None:
    inner = root.groups.create({"name": "inner", "path": "inner", "parent_id": group.id})
    project = root.projects.create({"name": "inside", "namespace_id": inner.id})
    key = f"WHO_{group.id}"
    admin.post("/admin/ci/variables", json={"key": key, "value": "instance"}).raise_for_status()
    for letter, owners in (("A", [group]), ("B", [group, inner]), ("C", [group, inner, project])):
        for owner in owners:
            owner.variables.create({"key": letter, "value": owner.path})
    group.variables.create({"key": key, "value": "outer"})
    group.variables.create({"key": "SECRET", "value": "protected-only", "protected": True})
    inner.variables.create({"key": "B", "value": "for review", "environment_scope": "review/*"})
    ci = "x: {script: [x]}\ny: {script: [x], environment: {name: review/1, action: prepare}}\n"
    change = {"action": "create", "file_path": ".gitlab-ci.yml", "content": ci}
    project.commits.create({"branch": "main", "commit_message": "ci", "actions": [change]})
    token = admin.post(f"/projects/{project.id}/runners/reset_registration_token").json()["token"]
    runner = register(str(http.base_url).removesuffix("/api/v4/"), token)
    jobs = {job.name: job for job in (runner.take_one(), runner.take_one())}
    x = jobs["x"]
    assert [x.variable(name) for name in ("A", "B", "C", key)] == [group.path, "inner", "inside", "outer"]
    assert x.variable("SECRET") == "protected-only"
    assert jobs["y"].variable("B") == "for review"
    admin.delete(f"/admin/ci/variables/{key}")


def test_a_groups_masked_variable_is_hidden_in_the_log(
    root: gitlab.Gitlab, group: Group, admin: httpx.Client, http: httpx.Client
) -> None:
    project = root.projects.create({"name": "inside", "namespace_id": group.id})
    group.variables.create({"key": "SECRET", "value": "canary-of-the-group", "masked": True})
    change = {"action": "create", "file_path": ".gitlab-ci.yml", "content": "a: {script: [b]}"}
    project.commits.create({"branch": "main", "commit_message": "ci", "actions": [change]})
    token = admin.post(f"/projects/{project.id}/runners/reset_registration_token").json()["token"]
    job = register(str(http.base_url).removesuffix("/api/v4/"), token).take_one()
    job.patch(b"it is canary-of")
    job.patch(b"-the-group, they say\n")
    trace = project.jobs.get(job.id).trace()
    assert b"canary" not in trace and b"[MASKED]" in trace


def test_maintainers_of_a_group_see_none(root: gitlab.Gitlab, group: Group, http: httpx.Client) -> None:
    user = root.users.create(
        {
            "username": f"gm{group.id}",
            "name": "M",
            "email": f"gm{group.id}@example.org",
            "force_random_password": True,
        }
    )
    group.members.create({"user_id": user.id, "access_level": 40})
    token = user.personal_access_tokens.create({"name": "t", "scopes": ["api"]}).token
    url = f"/groups/{group.id}/variables"
    assert http.get(url).status_code == 401
    assert http.get(url, headers={"PRIVATE-TOKEN": token}).status_code == 403
