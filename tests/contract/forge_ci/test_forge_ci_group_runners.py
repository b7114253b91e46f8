"""Runners of groups: they serve the projects of their group and of the groups below it, and no others."""

from __future__ import annotations

import uuid
from typing import Any

import gitlab
import httpx
import pytest
from gitlab.v4.objects import Group, Project

from nautilus_forge.testing.runner import FakeRunner, register
from nautilus_forge.testing.server import RunningForge


@pytest.fixture
def group(root: gitlab.Gitlab) -> Group:
    name = f"lab-{uuid.uuid4().hex[:8]}"
    return root.groups.create({"name": name, "path": name})


def token_of(group: Group, admin: httpx.Client) -> str:
    answer = admin.post(f"/groups/{group.id}/runners/reset_registration_token")
    assert answer.status_code == 201
    assert set(answer.json()) == {"token", "token_expires_at"}
    return str(answer.json()["token"])


def project_in(root: gitlab.Gitlab, namespace: Any, ci: str = "hello: {script: [echo]}\n") -> Project:
    name = f"p-{uuid.uuid4().hex[:8]}"
    project = root.projects.create({"name": name, "namespace_id": namespace})
    action = {"action": "create", "file_path": ".gitlab-ci.yml", "content": ci}
    project.commits.create({"branch": "main", "commit_message": "CI", "actions": [action]})
    return project


def test_a_groups_token_makes_a_runner_of_that_group(
    forge: RunningForge, root: gitlab.Gitlab, admin: httpx.Client, group: Group
) -> None:
    old = token_of(group, admin)
    new = token_of(group, admin)
    refused = admin.post("/runners", json={"token": old})
    assert refused.status_code == 403
    runner = root.runners.get(register(forge.url, new).id)
    assert runner.runner_type == "group_type"
    assert [shown["id"] for shown in runner.groups] == [group.id]
    assert [shown.id for shown in group.runners.list(type="group_type")] == [runner.id]


def test_it_gets_jobs_of_the_group_and_of_groups_below(
    forge: RunningForge, root: gitlab.Gitlab, admin: httpx.Client, group: Group
) -> None:
    below = root.groups.create({"name": "vision", "path": "vision", "parent_id": group.id})
    project_in(root, None)
    inside = {project_in(root, group.id).id, project_in(root, below.id).id}
    runner = register(forge.url, token_of(group, admin))
    taken = [runner.take_one(), runner.take_one()]
    assert {job.payload["job_info"]["project_id"] for job in taken} == inside
    assert runner.ask().status_code == 204


def test_a_project_may_do_without_them(
    forge: RunningForge, root: gitlab.Gitlab, admin: httpx.Client, group: Group
) -> None:
    project = project_in(root, group.id)
    runner = register(forge.url, token_of(group, admin))
    assert runner.id in {shown.id for shown in project.runners.list(all=True)}
    project.group_runners_enabled = False
    project.save()
    assert runner.ask().status_code == 204
    assert runner.id not in {shown.id for shown in project.runners.list(all=True)}


def test_who_owns_the_group_manages_them(
    forge: RunningForge, root: gitlab.Gitlab, admin: httpx.Client, group: Group
) -> None:
    runner: FakeRunner = register(forge.url, token_of(group, admin))
    clients = {}
    for level in (40, 50):
        name = f"u{uuid.uuid4().hex[:8]}"
        values = {"username": name, "name": name, "email": f"{name}@example.com", "password": f"{name} x-y-z"}
        user = root.users.create(values)
        group.members.create({"user_id": user.id, "access_level": level})
        token = user.personal_access_tokens.create({"name": "t", "scopes": ["api"]}).token
        clients[level] = httpx.Client(base_url=str(admin.base_url), headers={"PRIVATE-TOKEN": token})
    maintainer, owner = clients[40], clients[50]
    assert maintainer.get(f"/groups/{group.id}/runners").status_code == 200
    assert maintainer.post(f"/groups/{group.id}/runners/reset_registration_token").status_code == 403
    assert maintainer.put(f"/runners/{runner.id}", json={"paused": True}).status_code == 403
    assert maintainer.get("/runners").json() == []
    assert [shown["id"] for shown in owner.get("/runners").json()] == [runner.id]
    assert owner.put(f"/runners/{runner.id}", json={"paused": True}).json()["paused"] is True
    made = owner.post("/user/runners", json={"runner_type": "group_type", "group_id": group.id})
    assert made.status_code == 201
    assert made.json()["token"].startswith("glrt-")
    assert owner.delete(f"/runners/{runner.id}").status_code == 204
