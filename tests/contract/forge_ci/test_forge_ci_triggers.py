"""Trigger tokens, and pipelines by a job's token. Source: GitLab spec/requests/api/ci/triggers_spec.rb."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gitlab
import httpx
import pytest
from gitlab.v4.objects import Project

from nautilus_forge.testing.runner import FakeRunner

Push = Callable[..., Any]


def test_one_is_made_read_changed_listed_and_deleted(project: Project) -> None:
    made = project.triggers.create({"description": "for the nightly"})
    assert made.token.startswith("glptt-") and made.owner["username"] == "root" and made.last_used is None
    project.triggers.update(made.id, {"description": "for somebody else"})
    assert project.triggers.get(made.id).description == "for somebody else"
    assert project.triggers.get(made.id).token == made.token
    assert [t.id for t in project.triggers.list(all=True)] == [made.id]
    made.delete()
    with pytest.raises(gitlab.GitlabGetError, match="404"):
        project.triggers.get(made.id)


def test_a_token_makes_a_pipeline_with_variables(
    project: Project, push: Push, runner: FakeRunner, http: httpx.Client
) -> None:
    push()
    runner.run()
    trigger = project.triggers.create({"description": "t"})
    made = project.trigger_pipeline("main", trigger.token, variables={"A": "1", "B": "two words"})
    assert (made.source, made.ref, made.user["username"]) == ("trigger", "main", "root")
    job = runner.run()
    assert (job.variable("A"), job.variable("B")) == ("1", "two words")
    assert job.variable("CI_PIPELINE_TRIGGERED") == "true"
    payload = job.variable("TRIGGER_PAYLOAD")
    assert payload is not None and '"ref":"main"' in payload and trigger.token not in payload
    url = f"/projects/{project.id}/ref/main/trigger/pipeline"
    by_form = http.post(url, params={"token": trigger.token}, data={"variables[C]": "3"})
    assert by_form.status_code == 201
    assert runner.run().variable("C") == "3"
    assert project.triggers.get(trigger.id).last_used is not None


def test_what_is_refused(project: Project, push: Push, http: httpx.Client, root: gitlab.Gitlab) -> None:
    push()
    token = project.triggers.create({"description": "t"}).token
    url = f"/projects/{project.id}/trigger/pipeline"
    other = root.projects.create({"name": f"other {project.id}"})

    def fire(at: str = url, headers: dict[str, str] | None = None, **values: Any) -> httpx.Response:
        return http.post(at, json={"ref": "main", "token": token, **values}, headers=headers)

    assert fire(ref="nowhere").json() == {"message": {"base": ["Reference not found"]}}
    assert fire(token="glptt-unknown").status_code == 404
    assert fire(f"/projects/{other.id}/trigger/pipeline").status_code == 404
    assert fire(variables={"A": {"nested": "1"}}).json()["message"].startswith("variables needs to be a map")
    assert list(fire(variables={"not a key": "1"}).json()["message"]) == ["variables.key"]
    assert fire(headers={"X-Gitlab-Event": "Pipeline Hook"}).status_code == 403
    assert http.post(url, json={"ref": "main"}).json() == {"error": "token is missing"}
    assert len(project.pipelines.list(all=True)) == 1


def test_a_jobs_token_makes_a_pipeline_in_its_own_project(
    project: Project, push: Push, runner: FakeRunner, http: httpx.Client
) -> None:
    push()
    job = runner.take_one()
    answer = http.post(f"/projects/{project.id}/trigger/pipeline", data={"token": job.token, "ref": "main"})
    assert (answer.status_code, answer.json()["source"]) == (201, "pipeline")
    job.finish()
    again = http.post(f"/projects/{project.id}/trigger/pipeline", data={"token": job.token, "ref": "main"})
    assert again.status_code == 404


def test_others_see_the_beginning_of_a_token_and_developers_nothing(
    root: gitlab.Gitlab, project: Project, http: httpx.Client
) -> None:
    trigger = project.triggers.create({"description": "root's"})
    tokens = {}
    for level in (30, 40):
        name = f"u{level}of{project.id}"
        user = root.users.create(
            {"username": name, "name": name, "email": f"{name}@example.org", "force_random_password": True}
        )
        project.members.create({"user_id": user.id, "access_level": level})
        tokens[level] = user.personal_access_tokens.create({"name": "t", "scopes": ["api"]}).token
    url = f"/projects/{project.id}/triggers/{trigger.id}"
    seen = http.get(url, headers={"PRIVATE-TOKEN": tokens[40]}).json()
    assert seen["token"] == trigger.token.removeprefix("glptt-")[:4]
    changed = http.put(url, headers={"PRIVATE-TOKEN": tokens[40]}, json={"description": "mine"})
    assert changed.status_code == 403
    assert http.get(url, headers={"PRIVATE-TOKEN": tokens[30]}).status_code == 403
    assert http.get(url).status_code == 401


def test_an_expired_one_is_unknown(project: Project, push: Push, http: httpx.Client) -> None:
    push()
    made = project.triggers.create({"description": "old", "expires_at": "2020-01-01T00:00:00Z"})
    answer = http.post(f"/projects/{project.id}/trigger/pipeline", json={"token": made.token, "ref": "main"})
    assert answer.status_code == 404


def test_nothing_runs_where_ci_is_off_or_the_project_is_archived(
    project: Project, push: Push, http: httpx.Client, admin: httpx.Client
) -> None:
    push()
    token, at = project.triggers.create({"description": "t"}).token, f"/projects/{project.id}"

    def fire() -> Any:
        answer = http.post(f"{at}/trigger/pipeline", json={"ref": "main", "token": token})
        return answer.status_code, answer.json()["message"]["base"]

    project.archive()
    assert fire() == (400, ["Insufficient permissions to create a new pipeline"])
    project.unarchive()
    admin.put(at, json={"builds_access_level": "disabled"}).raise_for_status()
    assert fire() == (400, ["Pipelines are disabled!"])
    project.branches.create({"branch": "quiet", "ref": "main"})
    assert len(project.pipelines.list(all=True)) == 1
