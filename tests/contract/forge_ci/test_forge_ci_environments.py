"""Environments and deployments, by jobs and by the API.

Source: GitLab spec/requests/api/{environments,deployments}_spec.rb, doc/ci/environments/_index.md.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

import gitlab
import httpx
import pytest
from gitlab.v4.objects import Project

from nautilus_forge.testing.runner import FakeRunner

Push = Callable[..., Any]

REVIEW = """
deploy:
  script: [make deploy]
  environment: {name: review/$CI_COMMIT_REF_NAME, url: "https://$HOST.example.com/$CI_ENVIRONMENT_SLUG",
                on_stop: stop, auto_stop_in: 2 days, deployment_tier: staging}
  variables: {HOST: demo}
stop:
  script: [make stop]
  when: manual
  environment: {name: review/$CI_COMMIT_REF_NAME, action: stop}
"""


def test_a_job_makes_its_environment_and_deploys_to_it(
    project: Project, push: Push, runner: FakeRunner
) -> None:
    push(REVIEW)
    made = project.environments.list(all=True)[0]
    assert (made.name, made.state, made.tier) == ("review/main", "available", "staging")
    assert [d.status for d in project.deployments.list(all=True)] == ["created"]
    job = runner.take_one()
    assert job.variable("CI_ENVIRONMENT_NAME") == "review/main"
    assert job.variable("CI_ENVIRONMENT_SLUG") == made.slug
    assert job.variable("CI_ENVIRONMENT_TIER") == "staging"
    assert job.variable("CI_ENVIRONMENT_URL") == f"https://demo.example.com/{made.slug}"
    assert job.variable("CI_ENVIRONMENT_ID") == str(made.id)
    job.finish()
    now = project.environments.get(made.id)
    assert now.external_url == f"https://demo.example.com/{made.slug}"
    assert now.auto_stop_at is not None
    deployed = now.last_deployment
    assert (deployed["status"], deployed["iid"], deployed["deployable"]["id"]) == ("success", 1, job.id)
    assert project.deployments.get(deployed["id"]).environment["name"] == "review/main"
    with pytest.raises(gitlab.GitlabUpdateError, match="can not be updated using the API"):
        project.deployments.update(deployed["id"], {"status": "failed"})


def test_stopping_runs_the_job_of_on_stop(project: Project, push: Push, runner: FakeRunner) -> None:
    push(REVIEW)
    runner.run()
    environment = project.environments.list(all=True)[0]
    with pytest.raises(gitlab.GitlabDeleteError, match="403"):
        environment.delete()
    environment.stop()
    assert project.environments.get(environment.id).state == "stopping"
    job = runner.take_one()
    assert (job.name, job.variable("CI_ENVIRONMENT_ACTION")) == ("stop", "stop")
    job.finish()
    assert project.environments.get(environment.id).state == "stopped"
    environment.delete()
    assert project.environments.list(all=True) == [] and project.deployments.list(all=True) == []


def test_a_failed_deployment_is_tried_again_as_another_one(
    project: Project, push: Push, runner: FakeRunner
) -> None:
    push("deploy: {script: [x], environment: production}")
    job = runner.run(state="failed", failure_reason="script_failure")
    project.jobs.get(job.id).retry()
    runner.run()
    assert [(d.iid, d.status) for d in project.deployments.list(all=True)] == [(1, "failed"), (2, "success")]
    assert [d.iid for d in project.deployments.list(status="success", all=True)] == [2]
    assert [d.iid for d in project.deployments.list(sort="desc", order_by="iid", all=True)] == [2, 1]


def test_the_url_may_be_what_the_job_has_found_out(project: Project, push: Push, runner: FakeRunner) -> None:
    push(
        "deploy: {script: [x], environment: {name: live, url: $FOUND}, artifacts: {reports: {dotenv: a.env}}}"
    )
    job = runner.take_one()
    report = gzip.compress(b"FOUND=https://found.example.com\n")
    job.upload(report, "a.env.gz", artifact_type="dotenv", artifact_format="gzip").raise_for_status()
    job.finish()
    assert project.environments.list(all=True)[0].external_url == "https://found.example.com"


def test_a_name_that_cannot_be_fails_the_job(project: Project, push: Push, runner: FakeRunner) -> None:
    push('deploy: {script: [x], variables: {WHERE: "a:b"}, environment: {name: "$WHERE"}}')
    assert runner.take() is None
    job = project.jobs.list(all=True)[0]
    assert (job.status, job.failure_reason) == ("failed", "environment_creation_failure")


def test_variables_are_for_the_environments_of_their_scope(
    project: Project, push: Push, runner: FakeRunner
) -> None:
    for scope, value in (("*", "all"), ("review/*", "review"), ("review/main", "exact"), ("prod", "prod")):
        project.variables.create({"key": "WHERE", "value": value, "environment_scope": scope})
    push(
        "stages: [a]\n"
        "none: {stage: a, script: [x]}\n"
        "exact: {stage: a, script: [x], environment: review/$CI_COMMIT_BRANCH}\n"
        "other: {stage: a, script: [x], environment: {name: review/else, action: prepare}}\n"
    )
    seen = {job.name: job.variable("WHERE") for job in (runner.run(), runner.run(), runner.run())}
    assert seen == {"none": "all", "exact": "exact", "other": "review"}
    assert [d.environment["name"] for d in project.deployments.list(all=True)] == ["review/main"]


def test_environments_by_the_api(project: Project, admin: httpx.Client) -> None:
    made = project.environments.create(
        {"name": "qa/one", "external_url": "https://qa.example.com", "description": "for testers"}
    )
    assert (made.tier, made.slug[:6]) == ("testing", "qa-one") and made.project["id"] == project.id
    url = f"/projects/{project.id}/environments"
    again = admin.post(url, json={"name": "qa/one"})
    assert (again.status_code, again.json()["message"]) == (400, {"name": ["has already been taken"]})
    for wrong in (
        {"name": "/x"},
        {"name": ""},
        {"name": "a:b"},
        {"name": "x", "external_url": "javascript:1"},
    ):
        assert admin.post(url, json=wrong).status_code == 400
    project.environments.update(made.id, {"external_url": "https://two.example.com", "tier": "other"})
    assert project.environments.get(made.id).external_url == "https://two.example.com"
    assert [e.id for e in project.environments.list(search="qa/", all=True)] == [made.id]
    assert [e.id for e in project.environments.list(name="qa/one", states="available", all=True)] == [made.id]
    assert admin.get(url, params={"search": "qa"}).status_code == 400
    assert admin.get(url, params={"search": "qa/", "name": "qa"}).status_code == 400
    assert project.environments.list(states="stopped", all=True) == []
    stale = admin.post(f"{url}/stop_stale", json={"before": "2020-01-01T00:00:00Z"})
    assert stale.status_code == 200
    made.stop()
    assert project.environments.get(made.id).state == "stopped"


def test_deployments_by_the_api(project: Project, push: Push, admin: httpx.Client) -> None:
    push("a: {script: [b]}")
    sha = project.branches.get("main").commit["id"]
    given = {"environment": "live", "sha": sha, "ref": "main", "tag": False, "status": "running"}
    made = project.deployments.create(given)
    assert (made.iid, made.deployable, made.environment["name"]) == (1, None, "live")
    url = f"/projects/{project.id}/deployments"
    assert admin.delete(f"{url}/{made.id}").json() == {"message": "Cannot destroy running deployment"}
    project.deployments.update(made.id, {"status": "success"})
    assert admin.put(f"{url}/{made.id}", json={"status": "running"}).status_code == 400
    assert admin.delete(f"{url}/{made.id}").json() == {
        "message": "Deployment currently deployed to environment"
    }
    project.deployments.create(given | {"status": "success"})
    assert admin.delete(f"{url}/{made.id}").status_code == 204
    wrong = admin.post(url, json=given | {"sha": "0" * 40, "ref": "nowhere"}).json()["message"]
    assert wrong == {"sha": ["The commit does not exist"], "ref": ["The branch or tag does not exist"]}
    assert admin.get(url, params={"updated_after": "2020-01-01T00:00:00Z"}).status_code == 400
    recent = {"updated_after": "2020-01-01T00:00:00Z", "order_by": "updated_at", "environment": "live"}
    assert len(admin.get(url, params=recent).json()) == 1


def test_nobody_and_reporters_change_nothing(
    root: gitlab.Gitlab, project: Project, http: httpx.Client
) -> None:
    environment = project.environments.create({"name": "live"})
    user = root.users.create(
        {
            "username": f"rep{project.id}",
            "name": "R",
            "email": f"rep{project.id}@example.org",
            "force_random_password": True,
        }
    )
    project.members.create({"user_id": user.id, "access_level": 20})
    token = user.personal_access_tokens.create({"name": "t", "scopes": ["api"]}).token
    url = f"/projects/{project.id}/environments"
    assert http.get(url).status_code == 401
    http.headers["PRIVATE-TOKEN"] = token
    assert http.get(f"{url}/{environment.id}").status_code == 200
    assert http.post(url, json={"name": "other"}).status_code == 403
    assert http.post(f"{url}/{environment.id}/stop").status_code == 403


def test_a_branch_that_is_deleted_takes_its_environment_with_it(
    project: Project, push: Push, runner: FakeRunner
) -> None:
    push()
    runner.run()
    push("deploy: {script: [x], environment: review/$CI_COMMIT_BRANCH}", branch="topic")
    runner.run()
    environment = project.environments.list(name="review/topic", all=True)[0]
    assert environment.state == "available"
    project.branches.delete("topic")
    assert project.environments.get(environment.id).state == "stopped"


def test_an_older_deployment_does_not_run_after_a_newer_one(
    project: Project, push: Push, runner: FakeRunner
) -> None:
    ci = (
        "workflow: {auto_cancel: {on_new_commit: none}}\n"
        "deploy: {script: [x], environment: live, rules: [{when: manual}]}\n"
    )
    older, newer = push(ci), push(ci, again="changed")
    for pipeline in (newer, older):
        project.jobs.get(pipeline.jobs.list(all=True)[0].id).play()
        if pipeline is newer:
            runner.run()
    assert runner.take() is None
    job = older.jobs.list(all=True)[0]
    assert (job.status, job.failure_reason) == ("failed", "failed_outdated_deployment_job")


def test_a_deployment_that_is_skipped_says_so(project: Project, push: Push, runner: FakeRunner) -> None:
    push("a: {script: [x], stage: build}\ndeploy: {script: [x], stage: deploy, environment: live}\n")
    runner.run(state="failed", failure_reason="script_failure")
    assert [d.status for d in project.deployments.list(all=True)] == ["skipped"]
