"""Pipeline schedules as a client sees them.

Source: GitLab spec/requests/api/ci/pipeline_schedules_spec.rb.
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
YEARLY = {"description": "yearly", "ref": "main", "cron": "0 1 1 1 *"}


@pytest.fixture
def developer(root: gitlab.Gitlab, project: Project, http: httpx.Client) -> httpx.Client:
    """A developer of the project, by his token."""
    name = f"dev{project.id}"
    user = root.users.create(
        {"username": name, "name": "D", "email": f"{name}@example.org", "force_random_password": True}
    )
    project.members.create({"user_id": user.id, "access_level": 30})
    token = user.personal_access_tokens.create({"name": "t", "scopes": ["api"]}).token
    http.headers["PRIVATE-TOKEN"] = token
    return http


def test_one_is_made_read_changed_listed_and_deleted(project: Project, push: Push) -> None:
    push()
    made = project.pipelineschedules.create({**YEARLY, "cron_timezone": "Europe/Berlin", "active": False})
    assert (made.ref, made.cron_timezone, made.active) == ("refs/heads/main", "Europe/Berlin", False)
    assert made.owner["username"] == "root" and made.last_pipeline is None
    assert made.next_run_at.endswith("-01-01T00:00:00.000Z")
    project.pipelineschedules.update(made.id, {"cron": "@monthly", "active": True, "description": "monthly"})
    again = project.pipelineschedules.get(made.id)
    assert (again.cron, again.active, again.description) == ("@monthly", True, "monthly")
    assert again.next_run_at != made.next_run_at
    other = project.pipelineschedules.create({**YEARLY, "active": False})
    assert [s.id for s in project.pipelineschedules.list(all=True)] == [made.id, other.id]
    assert [s.id for s in project.pipelineschedules.list(scope="active", all=True)] == [made.id]
    assert project.pipelineschedules.list(per_page=1, page=2, get_all=False)[0].id == other.id
    again.delete()
    with pytest.raises(gitlab.GitlabGetError, match="404 Pipeline Schedule Not Found"):
        project.pipelineschedules.get(made.id)


@pytest.mark.parametrize(
    ("changed", "problems"),
    [
        ({"cron": "hello"}, {"cron": ["syntax is invalid"]}),
        ({"cron": "0 0 31 2 *"}, {"cron": ["syntax is invalid"]}),
        ({"cron_timezone": "Nowhere/Else"}, {"cron_timezone": ["syntax is invalid"]}),
        ({"description": " "}, {"description": ["can't be blank"]}),
    ],
)
def test_what_is_refused(
    project: Project, admin: httpx.Client, changed: dict[str, str], problems: dict[str, list[str]]
) -> None:
    answer = admin.post(f"/projects/{project.id}/pipeline_schedules", json=YEARLY | changed)
    assert (answer.status_code, answer.json()) == (400, {"message": problems})


def test_what_is_missing_is_named(project: Project, admin: httpx.Client) -> None:
    answer = admin.post(f"/projects/{project.id}/pipeline_schedules", json={"cron": "* * * * *"})
    assert answer.json() == {"error": "description is missing, ref is missing"}


def test_played_it_makes_a_pipeline_with_its_variables(
    project: Project, push: Push, runner: FakeRunner
) -> None:
    push()
    runner.run()
    schedule = project.pipelineschedules.create({**YEARLY, "description": "with a name", "active": False})
    schedule.variables.create({"key": "GREETING", "value": "hello"})
    schedule.variables.create({"key": "PAPER", "value": "content", "variable_type": "file"})
    schedule.variables.update("GREETING", {"value": "good day"})
    project.pipelineschedules.get(schedule.id).play()
    shown = project.pipelineschedules.get(schedule.id)
    assert [v["key"] for v in shown.attributes["variables"]] == ["GREETING", "PAPER"]
    made = shown.pipelines.list(all=True)
    assert [p.source for p in made] == ["schedule"]
    assert shown.last_pipeline["id"] == made[0].id
    job = runner.run()
    assert (job.variable("CI_PIPELINE_SOURCE"), job.variable("GREETING")) == ("schedule", "good day")
    assert job.variable("CI_PIPELINE_SCHEDULE_DESCRIPTION") == "with a name"
    assert [v["file"] for v in job.payload["variables"] if v["key"] == "PAPER"] == [True]


def test_its_variables_are_checked_and_deleted(project: Project, push: Push, admin: httpx.Client) -> None:
    push()
    schedule = project.pipelineschedules.create({**YEARLY, "active": False})
    url = f"/projects/{project.id}/pipeline_schedules/{schedule.id}/variables"
    assert admin.post(url, json={"key": "K", "value": "v"}).json()["variable_type"] == "env_var"
    assert admin.post(url, json={"key": "K", "value": "v"}).json()["message"] == {
        "key": ["has already been taken"]
    }
    assert admin.post(url, json={"key": "not a key", "value": "v"}).status_code == 400
    assert admin.get(f"{url}/K").json()["value"] == "v"
    assert admin.delete(f"{url}/K").status_code == 202
    assert admin.get(f"{url}/K").json() == {"message": "404 Pipeline Schedule Variable Not Found"}


def test_a_developer_changes_his_own_alone(project: Project, push: Push, developer: httpx.Client) -> None:
    push(branch="main")
    push(branch="work")
    of_root = project.pipelineschedules.create({**YEARLY, "ref": "work", "active": False})
    of_root.variables.create({"key": "SECRET", "value": "hidden"})
    url = f"/projects/{project.id}/pipeline_schedules"
    seen = developer.get(f"{url}/{of_root.id}").json()
    assert seen["id"] == of_root.id and "variables" not in seen
    assert developer.put(f"{url}/{of_root.id}", json={"active": True}).status_code == 403
    assert developer.delete(f"{url}/{of_root.id}").status_code == 403
    assert developer.post(f"{url}/{of_root.id}/take_ownership").status_code == 403
    on_protected = developer.post(url, json=YEARLY)
    assert on_protected.json() == {
        "message": {"base": ["The current user is not authorized to create the pipeline schedule"]}
    }
    own = developer.post(url, json=YEARLY | {"ref": "work", "active": False}).json()
    assert developer.put(f"{url}/{own['id']}", json={"description": "mine"}).json()["description"] == "mine"
    assert developer.put(f"{url}/{own['id']}", json={"ref": "main"}).status_code == 400
    taken = project.pipelineschedules.get(own["id"])
    taken.take_ownership()
    assert project.pipelineschedules.get(own["id"]).owner["username"] == "root"
    assert developer.put(f"{url}/{own['id']}", json={"description": "no more"}).status_code == 403


def test_nobody_sees_none(project: Project, http: httpx.Client) -> None:
    assert http.get(f"/projects/{project.id}/pipeline_schedules").status_code == 401
