"""Runners: how they register, prove themselves, are managed and leave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gitlab
import httpx
import pytest
from gitlab.v4.objects import Project

from nautilus_forge.testing.runner import FakeRunner, register
from nautilus_forge.testing.server import REGISTRATION_TOKEN, RunningForge

pytestmark = pytest.mark.alone


class TestRegistering:
    def test_a_registration_token_makes_an_instance_runner(
        self, http: httpx.Client, root: gitlab.Gitlab
    ) -> None:
        answer = http.post(
            "/runners",
            data={
                "token": REGISTRATION_TOKEN,
                "description": "server.hostname",
                "maintenance_note": "Some maintainer notes",
                "run_untagged": "false",
                "tag_list": "tag1, tag2",
                "locked": "true",
                "paused": "false",
                "access_level": "ref_protected",
                "maximum_timeout": 9000,
                "info[name]": "gitlab-runner",
                "info[version]": "14.7.1",
            },
        )
        assert answer.status_code == 201
        body = answer.json()
        assert body["token"].startswith("glrtr-")
        assert set(body) == {"id", "token", "token_expires_at"}
        shown = root.runners.get(body["id"])
        assert shown.runner_type == "instance_type"
        assert shown.tag_list == ["tag1", "tag2"]
        assert (shown.run_untagged, shown.locked, shown.paused) == (False, True, False)
        assert (shown.access_level, shown.maximum_timeout) == ("ref_protected", 9000)
        assert (shown.version, shown.maintenance_note) == ("14.7.1", "Some maintainer notes")

    def test_no_token_is_400_and_a_wrong_one_403(self, http: httpx.Client) -> None:
        assert http.post("/runners").json() == {"error": "token is missing"}
        answer = http.post("/runners", json={"token": "invalid"})
        assert (answer.status_code, answer.json()) == (403, {"message": "403 Forbidden"})

    def test_too_many_tags_are_refused_by_name(self, http: httpx.Client) -> None:
        tags = [f"tag{n}" for n in range(51)]
        answer = http.post("/runners", json={"token": REGISTRATION_TOKEN, "tag_list": tags})
        assert answer.status_code == 400
        assert answer.json()["message"]["tags_list"] == [
            "Too many tags specified. Please limit the number of tags to 50"
        ]

    def test_registration_tokens_can_be_switched_off(self, http: httpx.Client, admin: httpx.Client) -> None:
        admin.put("/application/settings", json={"allow_runner_registration_token": False}).raise_for_status()
        assert http.post("/runners", json={"token": REGISTRATION_TOKEN}).status_code == 410

    def test_the_instances_token_can_be_reset(
        self, forge: RunningForge, http: httpx.Client, admin: httpx.Client
    ) -> None:
        new = admin.post("/runners/reset_registration_token").json()["token"]
        assert new.startswith("GR1348941")
        assert http.post("/runners", json={"token": REGISTRATION_TOKEN}).status_code == 403
        assert register(forge.url, new).id

    def test_a_projects_token_makes_a_runner_of_that_project_alone(
        self, forge: RunningForge, admin: httpx.Client, project: Project, root: gitlab.Gitlab
    ) -> None:
        token = admin.post(f"/projects/{project.id}/runners/reset_registration_token").json()["token"]
        own = register(forge.url, token)
        shown = root.runners.get(own.id)
        assert shown.runner_type == "project_type"
        assert [p["id"] for p in shown.projects] == [project.id]

    def test_a_user_creates_a_runner_with_an_authentication_token(self, admin: httpx.Client) -> None:
        answer = admin.post("/user/runners", json={"runner_type": "instance_type", "tag_list": "gpu"})
        assert answer.status_code == 201
        assert answer.json()["token"].startswith("glrt-")
        for wanted, is_found in (("gpu", True), ("gpu,a100", False)):
            found = admin.get("/runners/all", params={"tag_list": wanted}).json()
            assert (answer.json()["id"] in [runner["id"] for runner in found]) is is_found

    def test_a_project_runner_needs_its_project(self, admin: httpx.Client, project: Project) -> None:
        assert admin.post("/user/runners", json={"runner_type": "project_type"}).status_code == 400
        made = admin.post("/user/runners", json={"runner_type": "project_type", "project_id": project.id})
        assert made.status_code == 201
        assert admin.post("/user/runners", json={"runner_type": "odd"}).json() == {
            "error": "runner_type does not have a valid value"
        }

    def test_only_administrators_create_instance_runners(
        self, forge: RunningForge, root: gitlab.Gitlab, http: httpx.Client
    ) -> None:
        user = root.users.create(
            {"username": "mia", "name": "Mia", "email": "mia@example.org", "force_random_password": True}
        )
        token = user.personal_access_tokens.create({"name": "t", "scopes": ["create_runner"]}).token
        answer = http.post(
            "/user/runners", json={"runner_type": "instance_type"}, headers={"PRIVATE-TOKEN": token}
        )
        assert answer.status_code == 403


class TestProving:
    def test_verify_answers_with_the_runner(self, http: httpx.Client, instance_runner: FakeRunner) -> None:
        answer = http.post("/runners/verify", json={"token": instance_runner.token, "system_id": "s_abc"})
        assert answer.status_code == 200
        assert answer.json() == {
            "id": instance_runner.id,
            "token": instance_runner.token,
            "token_expires_at": None,
        }

    def test_verify_refuses_what_is_no_token(self, http: httpx.Client) -> None:
        assert http.post("/runners/verify").status_code == 400
        assert http.post("/runners/verify", json={"token": "invalid-token"}).status_code == 403

    def test_a_system_id_makes_a_manager(
        self, http: httpx.Client, instance_runner: FakeRunner, admin: httpx.Client
    ) -> None:
        info = {"version": "17.0", "platform": "linux", "config": {"gpus": "all", "ignored": "x"}}
        http.post(
            "/runners/verify", json={"token": instance_runner.token, "system_id": "s_abc", "info": info}
        )
        managers = admin.get(f"/runners/{instance_runner.id}/managers").json()
        assert [(m["system_id"], m["version"], m["status"]) for m in managers] == [
            ("s_abc", "17.0", "online")
        ]

    def test_a_manager_leaves(
        self, http: httpx.Client, instance_runner: FakeRunner, admin: httpx.Client
    ) -> None:
        http.post("/runners/verify", json={"token": instance_runner.token, "system_id": "s_abc"})
        gone = {"token": instance_runner.token, "system_id": "s_abc"}
        assert (
            http.request("DELETE", "/runners/managers", json={"token": instance_runner.token}).status_code
            == 400
        )
        assert http.request("DELETE", "/runners/managers", json=gone).status_code == 204
        assert http.request("DELETE", "/runners/managers", json=gone).status_code == 404
        assert admin.get(f"/runners/{instance_runner.id}/managers").json() == []

    def test_a_new_authentication_token_replaces_the_old_one(
        self, http: httpx.Client, instance_runner: FakeRunner
    ) -> None:
        instance_runner.ask()
        answer = http.post("/runners/reset_authentication_token", json={"token": instance_runner.token})
        assert answer.status_code == 201
        assert http.post("/runners/verify", json={"token": instance_runner.token}).status_code == 403
        assert http.post("/runners/verify", json={"token": answer.json()["token"]}).status_code == 200

    def test_the_router_is_not_there(self, http: httpx.Client, instance_runner: FakeRunner) -> None:
        answer = http.get("/runners/router/discovery", headers={"RUNNER-TOKEN": instance_runner.token})
        assert answer.status_code == 501

    def test_a_runner_unregisters(self, http: httpx.Client, instance_runner: FakeRunner) -> None:
        assert http.request("DELETE", "/runners", json={"token": instance_runner.token}).status_code == 204
        assert http.request("DELETE", "/runners", json={"token": instance_runner.token}).status_code == 403


class TestManaging:
    def test_lists(self, root: gitlab.Gitlab, instance_runner: FakeRunner) -> None:
        assert [r.id for r in root.runners_all.list(all=True)] == [instance_runner.id]
        assert root.runners.list(all=True) == []
        assert root.runners_all.list(type="project_type", all=True) == []
        assert [r.id for r in root.runners_all.list(status="online", all=True)] == [instance_runner.id]

    def test_an_unknown_filter_is_400(self, admin: httpx.Client) -> None:
        answer = admin.get("/runners/all", params={"status": "sleepy"})
        assert answer.status_code == 400

    def test_a_runner_is_changed(self, root: gitlab.Gitlab, instance_runner: FakeRunner) -> None:
        shown = root.runners.get(instance_runner.id)
        shown.description, shown.tag_list, shown.paused = "renamed", ["gpu", "a100"], True
        shown.save()
        again = root.runners.get(instance_runner.id)
        assert (again.description, again.tag_list, again.paused, again.active) == (
            "renamed",
            ["a100", "gpu"],
            True,
            False,
        )

    def test_a_change_needs_something_to_change(
        self, admin: httpx.Client, instance_runner: FakeRunner
    ) -> None:
        assert admin.put(f"/runners/{instance_runner.id}").status_code == 400
        assert admin.put("/runners/4711", json={"paused": True}).json() == {"message": "404 Runner Not Found"}

    def test_a_runner_is_deleted(self, root: gitlab.Gitlab, instance_runner: FakeRunner) -> None:
        root.runners.delete(instance_runner.id)
        with pytest.raises(gitlab.GitlabGetError, match="404"):
            root.runners.get(instance_runner.id)

    def test_a_project_lists_and_shares_runners(
        self, admin: httpx.Client, root: gitlab.Gitlab, project: Project, instance_runner: FakeRunner
    ) -> None:
        other = root.projects.create({"name": "other"})
        own = admin.post(
            "/user/runners", json={"runner_type": "project_type", "project_id": project.id}
        ).json()
        assert {r.id for r in project.runners.list(all=True)} == {own["id"], instance_runner.id}
        other.runners.create({"runner_id": own["id"]})
        assert own["id"] in {r.id for r in other.runners.list(all=True)}
        with pytest.raises(gitlab.GitlabCreateError, match="not assignable"):
            other.runners.create({"runner_id": instance_runner.id})
        other.runners.delete(own["id"])
        with pytest.raises(gitlab.GitlabDeleteError, match="Only one project"):
            project.runners.delete(own["id"])

    def test_the_jobs_of_a_runner(
        self, root: gitlab.Gitlab, push: Callable[..., Any], instance_runner: FakeRunner, project: Project
    ) -> None:
        push()
        job = instance_runner.run()
        jobs = root.runners.get(instance_runner.id).jobs.list(all=True)
        assert [(j.id, j.status, j.project["id"]) for j in jobs] == [(job.id, "success", project.id)]
        assert root.runners.get(instance_runner.id).jobs.list(status="running", all=True) == []
