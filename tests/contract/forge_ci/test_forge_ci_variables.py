"""Stored variables: their API, who sees them, and what reaches a job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gitlab
import httpx
import psycopg
import pytest
from gitlab.v4.objects import Project

from nautilus_forge.testing.runner import FakeRunner
from nautilus_forge.testing.server import RunningForge

Push = Callable[..., Any]


class TestOfProjects:
    def test_one_is_made_read_changed_and_deleted(self, project: Project) -> None:
        made = project.variables.create(
            {"key": "KEY_1", "value": "v1", "protected": True, "raw": True, "description": "what for"}
        )
        assert (made.protected, made.masked, made.hidden, made.raw) == (True, False, False, True)
        assert (made.variable_type, made.environment_scope, made.description) == ("env_var", "*", "what for")
        project.variables.update("KEY_1", {"value": "v2", "variable_type": "file"})
        again = project.variables.get("KEY_1")
        assert (again.value, again.variable_type) == ("v2", "file")
        assert [v.key for v in project.variables.list(all=True)] == ["KEY_1"]
        project.variables.delete("KEY_1")
        with pytest.raises(gitlab.GitlabGetError, match="404 Variable Not Found"):
            project.variables.get("KEY_1")

    def test_the_same_key_again_is_400_but_not_in_another_scope(
        self, project: Project, admin: httpx.Client
    ) -> None:
        url = f"/projects/{project.id}/variables"
        admin.post(url, json={"key": "K", "value": "1"}).raise_for_status()
        answer = admin.post(url, json={"key": "K", "value": "2"})
        assert (answer.status_code, answer.json()["message"]) == (
            400,
            {"key": ["(K) has already been taken"]},
        )
        admin.post(url, json={"key": "K", "value": "3", "environment_scope": "prod/*"}).raise_for_status()
        assert admin.get(f"{url}/K").status_code == 409
        chosen = admin.get(f"{url}/K", params={"filter[environment_scope]": "prod/*"})
        assert chosen.json()["value"] == "3"
        assert admin.get(f"{url}/K", params={"filter[environment_scope]": "no"}).status_code == 404

    @pytest.mark.parametrize(
        ("given", "field"),
        [
            ({"key": "not a key", "value": "x"}, "key"),
            ({"key": "K", "value": "short", "masked": True}, "value"),
            ({"key": "K", "value": "two\nlines of it", "masked": True}, "value"),
        ],
    )
    def test_what_is_refused(
        self, project: Project, admin: httpx.Client, given: dict[str, Any], field: str
    ) -> None:
        answer = admin.post(f"/projects/{project.id}/variables", json=given)
        assert answer.status_code == 400
        assert field in answer.json()["message"]

    def test_a_missing_value_is_400(self, project: Project, admin: httpx.Client) -> None:
        answer = admin.post(f"/projects/{project.id}/variables", json={"key": "K"})
        assert answer.json() == {"error": "value is missing"}

    def test_a_hidden_one_never_shows_its_value(self, project: Project, admin: httpx.Client) -> None:
        url = f"/projects/{project.id}/variables"
        given = {"key": "H", "value": "hidden-value-1", "masked_and_hidden": True}
        assert admin.post(url, json=given).json()["value"] is None
        shown = admin.get(f"{url}/H").json()
        assert (shown["value"], shown["hidden"], shown["masked"]) == (None, True, True)
        answer = admin.put(f"{url}/H", json={"masked": False})
        assert (answer.status_code, list(answer.json()["message"])) == (400, ["base"])

    def test_developers_see_none(self, root: gitlab.Gitlab, project: Project, http: httpx.Client) -> None:
        user = root.users.create(
            {
                "username": f"dev{project.id}",
                "name": "D",
                "email": f"d{project.id}@example.org",
                "force_random_password": True,
            }
        )
        project.members.create({"user_id": user.id, "access_level": 30})
        token = user.personal_access_tokens.create({"name": "t", "scopes": ["api"]}).token
        url = f"/projects/{project.id}/variables"
        assert http.get(url, headers={"PRIVATE-TOKEN": token}).status_code == 403
        assert http.get(url).status_code == 401

    def test_values_are_encrypted_at_rest(
        self, project: Project, forge: RunningForge, admin: httpx.Client
    ) -> None:
        project.variables.create({"key": "CANARY", "value": "canary-at-rest-0815"})
        url = forge.settings.database_url.get_secret_value().replace("+psycopg", "")
        with psycopg.connect(url) as db:
            rows = db.execute("SELECT value FROM ci_variables WHERE key = 'CANARY'").fetchall()
        assert len(rows) == 1
        assert b"canary-at-rest-0815" not in bytes(rows[0][0])


class TestOfTheInstance:
    pytestmark = pytest.mark.alone

    def test_one_is_made_read_changed_and_deleted(self, root: gitlab.Gitlab) -> None:
        made = root.variables.create({"key": "SHARED", "value": "1"})
        assert made.variable_type == "env_var"
        assert "environment_scope" not in made.attributes
        root.variables.update("SHARED", {"value": "2"})
        assert root.variables.get("SHARED").value == "2"
        root.variables.delete("SHARED")
        assert root.variables.list(all=True) == []


class TestInJobs:
    pytestmark = pytest.mark.alone

    def test_precedence(self, root: gitlab.Gitlab, project: Project, push: Push, runner: FakeRunner) -> None:
        for key in ("B", "C", "D"):
            root.variables.create({"key": key, "value": "instance"})
        for key in ("C", "D"):
            project.variables.create({"key": key, "value": "project"})
        names = ", ".join(f"{key}: file" for key in "ABCD")
        push(f"job:\n  script: [x]\n  variables: {{{names}}}\n", message="x [ci skip]")
        project.pipelines.create({"ref": "main", "variables": [{"key": "D", "value": "pipeline"}]})
        job = runner.take_one()
        assert [job.variable(key) for key in "ABCD"] == ["file", "instance", "project", "pipeline"]

    def test_protected_ones_reach_protected_branches_alone(
        self, project: Project, push: Push, runner: FakeRunner
    ) -> None:
        project.variables.create({"key": "GUARDED", "value": "x", "protected": True})
        push()
        push(branch="feature", note="x")
        got = {
            job.payload["git_info"]["ref"]: job.variable("GUARDED") for job in (runner.run(), runner.run())
        }
        assert got == {"main": "x", "feature": None}

    def test_how_they_are_marked(self, project: Project, push: Push, runner: FakeRunner) -> None:
        project.variables.create({"key": "SECRET", "value": "secret-0123", "masked": True})
        project.variables.create({"key": "FILE", "value": "content", "variable_type": "file"})
        project.variables.create({"key": "RAW", "value": "$HOME/x", "raw": True})
        push()
        marks = {v["key"]: v for v in runner.take_one().payload["variables"]}
        assert (marks["SECRET"]["masked"], marks["SECRET"]["public"]) == (True, False)
        assert marks["FILE"]["file"] is True
        assert (marks["RAW"]["raw"], marks["RAW"]["value"]) == (True, "$HOME/x")
        assert marks["CI_JOB_TOKEN"]["masked"] is True
        assert marks["CI_COMMIT_SHA"]["public"] is True

    def test_scopes(self, project: Project, push: Push, runner: FakeRunner) -> None:
        project.variables.create({"key": "URL", "value": "any"})
        project.variables.create({"key": "URL", "value": "prod", "environment_scope": "prod/*"})
        push("job: {script: [x], environment: {name: prod/eu}}\nother: {script: [x]}\n")
        got = {job.name: job.variable("URL") for job in (runner.take_one(), runner.take_one())}
        assert got == {"job": "prod", "other": "any"}

    def test_variables_inside_variables(self, project: Project, push: Push, runner: FakeRunner) -> None:
        project.variables.create({"key": "DATA", "value": "/data"})
        push("job:\n  script: [x]\n  variables: {SET: '$DATA/digits', KEEP: '$$DATA $NOPE'}\n")
        job = runner.take_one()
        assert (job.variable("SET"), job.variable("KEEP")) == ("/data/digits", "$$DATA $NOPE")
