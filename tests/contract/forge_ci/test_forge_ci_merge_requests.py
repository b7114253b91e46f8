"""Pipelines of merge requests: when they are made, what their jobs know, what they do to merging.

Source: doc/ci/pipelines/merge_request_pipelines.md, doc/ci/variables/predefined_variables.md, gitlabhq
spec/services/merge_requests/create_pipeline_service_spec.rb, spec/services/auto_merge/.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import gitlab
import httpx
import pytest
from gitlab.v4.objects import Project

from nautilus_forge.testing.runner import FakeRunner

CI = """
build:
  script: [make]
check:
  script: [make check]
  rules:
    - if: $CI_PIPELINE_SOURCE == "merge_request_event"
      changes: [model.py]
"""
ALWAYS = """
workflow:
  rules:
    - if: $CI_MERGE_REQUEST_IID
    - if: $CI_OPEN_MERGE_REQUESTS
      when: never
    - if: $CI_COMMIT_BRANCH
build:
  script: [make]
"""


def commit(project: Any, branch: str, path: str, content: str = "x\n") -> str:
    """To a branch that there is, or to a new one that begins at main."""
    given: dict[str, Any] = {
        "branch": branch,
        "commit_message": f"Write {path}",
        "actions": [{"action": "create", "file_path": path, "content": content}],
    }
    if branch != "main" and branch not in [found.name for found in project.branches.list()]:
        given["start_branch"] = "main"
    sha: str = project.commits.create(given).id
    return sha


def ask(project: Any, branch: str = "feature", **more: object) -> Any:
    given = {"source_branch": branch, "target_branch": "main", "title": "A feature"}
    return project.mergerequests.create(given | more)


def shown(pipelines: Any) -> list[tuple[str, str, str]]:
    return [(pipeline.source, pipeline.ref, pipeline.sha) for pipeline in pipelines]


def until(holds: Callable[[], bool], limit_s: float = 60.0) -> None:
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_one_is_made_with_the_request_and_with_each_push(project: Project) -> None:
    commit(project, "main", ".gitlab-ci.yml", CI)
    head = commit(project, "feature", "model.py")
    made = ask(project)
    pipelines = made.pipelines.list()
    assert shown(pipelines) == [
        ("merge_request_event", "refs/merge-requests/1/head", head),
        ("push", "feature", head),
    ]
    jobs = project.pipelines.get(pipelines[0].id).jobs.list()
    assert [job.name for job in jobs] == ["check"]
    assert made.head_pipeline["id"] == made.pipeline["id"] == pipelines[0].id
    assert made.pipeline["status"] == "pending"
    newer = commit(project, "feature", "other.py")
    assert shown(made.pipelines.list())[0] == (
        "merge_request_event",
        "refs/merge-requests/1/head",
        newer,
    )
    until(lambda: project.pipelines.get(pipelines[0].id).status == "canceled")
    asked = made.pipelines.create({})
    assert (asked.sha, asked.source, asked.tag) == (newer, "merge_request_event", False)


def test_a_configuration_without_jobs_for_it_makes_none(project: Project) -> None:
    commit(project, "main", ".gitlab-ci.yml", "build: {script: [make]}\n")
    commit(project, "feature", "model.py")
    made = ask(project)
    assert [pipeline.source for pipeline in made.pipelines.list()] == ["push"]
    with pytest.raises(gitlab.GitlabCreateError) as refused:
        made.pipelines.create({})
    assert refused.value.response_code == 400
    assert "prevented any jobs" in str(refused.value)


def test_workflow_rules_keep_branch_pipelines_away_while_one_is_open(project: Project) -> None:
    commit(project, "main", ".gitlab-ci.yml", ALWAYS)
    commit(project, "feature", "model.py")
    made = ask(project)
    commit(project, "feature", "more.py")
    sources = [pipeline.source for pipeline in made.pipelines.list()]
    assert sources == ["merge_request_event", "merge_request_event", "push"]


def test_its_jobs_know_it(project: Project, runner: FakeRunner) -> None:
    commit(project, "main", ".gitlab-ci.yml", CI)
    runner.run()
    base = project.branches.get("main").commit["id"]
    project.variables.create({"key": "KEPT", "value": "for protected refs", "protected": True})
    project.protectedbranches.create({"name": "feature"})
    head = commit(project, "feature", "model.py")
    made = ask(project, labels="b,a", assignee_id=1, description="Why")
    taken = [runner.take_one(), runner.take_one()]
    (job,) = [one for one in taken if one.name == "check"]
    assert {key: job.variable(key) for key in EXPECTED} == EXPECTED
    assert job.variable("CI_MERGE_REQUEST_ID") == str(made.id)
    assert job.variable("CI_MERGE_REQUEST_DIFF_BASE_SHA") == base
    assert job.variable("CI_COMMIT_SHA") == head
    assert job.variable("CI_MERGE_REQUEST_PROJECT_PATH") == project.path_with_namespace
    assert job.variable("CI_MERGE_REQUEST_SOURCE_PROJECT_ID") == str(project.id)
    assert job.variable("CI_OPEN_MERGE_REQUESTS") == f"{project.path_with_namespace}!1"
    git = job.payload["git_info"]
    pipeline = job.payload["job_info"]["pipeline_id"]
    assert git["ref"] == "refs/merge-requests/1/head"
    assert git["refspecs"] == [f"+refs/pipelines/{pipeline}:refs/pipelines/{pipeline}"]
    assert not git["protected"]
    for one in taken:
        one.finish()


EXPECTED = {
    "CI_PIPELINE_SOURCE": "merge_request_event",
    "CI_COMMIT_REF_NAME": "feature",
    "CI_COMMIT_BRANCH": None,
    "CI_COMMIT_BEFORE_SHA": "0" * 40,
    "CI_COMMIT_REF_PROTECTED": "false",
    "CI_MERGE_REQUEST_IID": "1",
    "CI_MERGE_REQUEST_TITLE": "A feature",
    "CI_MERGE_REQUEST_DESCRIPTION": "Why",
    "CI_MERGE_REQUEST_DESCRIPTION_IS_TRUNCATED": "false",
    "CI_MERGE_REQUEST_LABELS": "a,b",
    "CI_MERGE_REQUEST_ASSIGNEES": "root",
    "CI_MERGE_REQUEST_EVENT_TYPE": "detached",
    "CI_MERGE_REQUEST_REF_PATH": "refs/merge-requests/1/head",
    "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "feature",
    "CI_MERGE_REQUEST_SOURCE_BRANCH_PROTECTED": "true",
    "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
    "CI_MERGE_REQUEST_TARGET_BRANCH_PROTECTED": "true",
    "CI_MERGE_REQUEST_SQUASH_ON_MERGE": "false",
    "KEPT": None,
}


def test_a_forks_request_runs_in_the_fork_with_the_forks_variables(
    root: gitlab.Gitlab, project: Project
) -> None:
    commit(project, "main", ".gitlab-ci.yml", ALWAYS)
    project.variables.create({"key": "SECRET", "value": "of the target"})
    project.visibility = "public"
    project.save()
    name = f"sam{uuid.uuid4().hex[:6]}"
    given = {
        "username": name,
        "name": "Sam",
        "email": f"{name}@example.com",
        "password": "sam has a password",
    }
    token = root.users.create(given).personal_access_tokens.create({"name": "t", "scopes": ["api"]})
    sam = gitlab.Gitlab(root.url, private_token=token.token, keep_base_url=True)
    sam.projects.get(project.id).forks.create({})
    path = f"{name}/{project.path}"
    until(lambda: sam.projects.get(path).import_status in ("finished", "none"))
    fork = sam.projects.get(path)
    runner = _runner_of(fork)
    head = commit(fork, "feature", "model.py")
    runner.run()
    made = ask(fork, target_project_id=project.id)
    (own,) = fork.pipelines.list(source="merge_request_event")
    assert (own.ref, own.sha) == ("feature", head)
    assert project.pipelines.list(source="merge_request_event") == []
    job = runner.take_one()
    assert job.payload["job_info"]["project_id"] == fork.id
    assert job.variable("CI_MERGE_REQUEST_PROJECT_ID") == str(project.id)
    assert job.variable("CI_MERGE_REQUEST_IID") == str(made.iid)
    assert job.variable("SECRET") is None
    job.finish()
    seen = project.mergerequests.get(made.iid)
    assert (seen.head_pipeline["id"], seen.head_pipeline["status"]) == (own.id, "success")


def _runner_of(project: Any) -> FakeRunner:
    url = project.manager.gitlab.url
    made = project.manager.gitlab.http_post(
        "/user/runners", post_data={"runner_type": "project_type", "project_id": project.id}
    )
    http = httpx.Client(base_url=f"{url}/api/v4", timeout=90)
    return FakeRunner(http, made["token"], made["id"])


class TestMerging:
    def test_the_project_can_want_a_pipeline_that_succeeded(
        self, project: Project, runner: FakeRunner
    ) -> None:
        commit(project, "main", ".gitlab-ci.yml", ALWAYS)
        runner.run()
        project.only_allow_merge_if_pipeline_succeeds = True
        project.save()
        commit(project, "feature", "model.py")
        runner.run()
        made = ask(project)
        assert made.detailed_merge_status == "ci_still_running"
        with pytest.raises(gitlab.GitlabError) as refused:
            made.merge()
        assert refused.value.response_code == 405
        runner.run(state="failed")
        assert project.mergerequests.get(1).detailed_merge_status == "ci_must_pass"
        made.pipelines.create({})
        runner.run()
        assert project.mergerequests.get(1).detailed_merge_status == "mergeable"
        assert made.merge()["state"] == "merged"

    def test_it_can_be_merged_once_the_pipeline_has_succeeded(
        self, project: Project, runner: FakeRunner
    ) -> None:
        commit(project, "main", ".gitlab-ci.yml", ALWAYS)
        runner.run()
        commit(project, "feature", "model.py")
        runner.run()
        made = ask(project)
        later = made.merge(merge_when_pipeline_succeeds=True, should_remove_source_branch=True)
        assert (later["state"], later["merge_when_pipeline_succeeds"]) == ("opened", True)
        assert later["merge_user"]["username"] == "root"
        made.cancel_merge_when_pipeline_succeeds()
        assert not project.mergerequests.get(1).merge_when_pipeline_succeeds
        with pytest.raises(gitlab.GitlabError) as refused:
            made.cancel_merge_when_pipeline_succeeds()
        assert refused.value.response_code == 406
        made.merge(merge_when_pipeline_succeeds=True, should_remove_source_branch=True)
        runner.run(state="failed")
        assert project.mergerequests.get(1).state == "opened"
        made.pipelines.create({})
        runner.run()
        until(lambda: project.mergerequests.get(1).state == "merged")
        until(lambda: [branch.name for branch in project.branches.list()] == ["main"])
        assert project.mergerequests.get(1).merged_by["username"] == "root"

    def test_a_push_takes_the_leave_back(self, project: Project, runner: FakeRunner) -> None:
        commit(project, "main", ".gitlab-ci.yml", ALWAYS)
        runner.run()
        commit(project, "feature", "model.py")
        runner.run()
        made = ask(project)
        made.merge(merge_when_pipeline_succeeds=True)
        commit(project, "feature", "more.py")
        assert not project.mergerequests.get(1).merge_when_pipeline_succeeds
