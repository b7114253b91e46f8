"""Pipelines: how they are made, move on, and are cancelled, retried and deleted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gitlab
import httpx
import pytest
from gitlab.v4.objects import Project

from nautilus_forge.jobs.limits import CiLimits
from nautilus_forge.testing.runner import FakeRunner
from nautilus_forge.testing.server import RunningForge

Push = Callable[..., Any]

TWO_STAGES = """
stages: [build, test]
compile: {stage: build, script: [make]}
check: {stage: test, script: [make check]}
"""


def statuses(project: Project, pipeline: Any, **more: Any) -> dict[str, str]:
    jobs = project.pipelines.get(pipeline.id).jobs.list(all=True, **more)
    return {job.name: job.status for job in jobs}


def job_named(project: Project, pipeline: Any, name: str) -> Any:
    found = [j for j in project.pipelines.get(pipeline.id).jobs.list(all=True) if j.name == name]
    return project.jobs.get(found[0].id)


class TestMaking:
    def test_without_configuration_a_push_makes_none(self, project: Project) -> None:
        action = {"action": "create", "file_path": "README.md", "content": "x"}
        project.commits.create({"branch": "main", "commit_message": "x", "actions": [action]})
        assert project.pipelines.list(all=True) == []

    def test_a_configuration_with_mistakes_makes_a_failed_one(self, project: Project, push: Push) -> None:
        pipeline = push("job:\n  scirpt: [x]\n")
        assert pipeline.status == "failed"
        assert "job" in pipeline.yaml_errors
        assert pipeline.jobs.list(all=True) == []
        assert [p.id for p in project.pipelines.list(yaml_errors=True, all=True)] == [pipeline.id]

    def test_ci_skip_makes_a_skipped_one(self, project: Project, push: Push) -> None:
        pipeline = push(message="change [ci skip]")
        assert (pipeline.status, pipeline.jobs.list(all=True)) == ("skipped", [])

    def test_rules_may_say_that_there_is_none(self, project: Project, push: Push) -> None:
        assert push("job:\n  script: [x]\n  rules:\n    - when: never\n") is None

    def test_the_pipelines_ref_is_in_the_repository(self, forge: RunningForge, push: Push) -> None:
        pipeline = push()
        repository = forge.forge.repositories.path(pipeline.project_id)
        ref = repository / "refs" / "pipelines" / str(pipeline.id)
        assert ref.read_text().strip() == pipeline.sha

    def test_numbers_count_within_the_project(self, push: Push) -> None:
        assert [push(note=str(n)).iid for n in range(3)] == [1, 2, 3]

    def test_a_newer_commit_cancels_what_has_not_begun(
        self, project: Project, push: Push, eventually: Any
    ) -> None:
        first, second = push(), push(note="newer")
        eventually(lambda: project.pipelines.get(first.id).status == "canceled")
        assert project.pipelines.get(second.id).status == "pending"

    def test_included_files_and_changes(self, push: Push, project: Project) -> None:
        ci = """
include: /ci/jobs.yml
docs: {script: [x], rules: [{changes: ["docs/*"]}]}
there: {script: [x], rules: [{exists: ["ci/*.yml"]}]}
"""
        first = push(ci, **{"ci/jobs.yml": "included: {script: [x]}\n"})
        assert set(statuses(project, first)) == {"docs", "there", "included"}
        second = push(ci, **{"ci/jobs.yml": "included: {script: [y]}\n"})
        assert set(statuses(project, second)) == {"there", "included"}

    def test_stored_variables_reach_the_rules(self, push: Push, project: Project) -> None:
        project.variables.create({"key": "DEPLOY", "value": "yes"})
        pipeline = push(
            "a: {script: [x], rules: [{if: $DEPLOY == 'yes'}]}\nb: {script: [x], rules: [{if: $DEPLOY == 'no'}]}\n"
        )
        assert set(statuses(project, pipeline)) == {"a"}


class TestByApi:
    def test_one_is_made_for_a_branch_with_variables(
        self, project: Project, push: Push, runner: FakeRunner
    ) -> None:
        push(message="first [ci skip]")
        made = project.pipelines.create(
            {
                "ref": "main",
                "variables": [
                    {"key": "LR", "value": "0.1"},
                    {"key": "F", "value": "x", "variable_type": "file"},
                ],
            }
        )
        assert (made.status, made.source) == ("pending", "api")
        assert {(v.key, v.value, v.variable_type) for v in made.variables.list(all=True)} == {
            ("LR", "0.1", "env_var"),
            ("F", "x", "file"),
        }
        job = runner.take_one()
        assert job.variable("LR") == "0.1"
        assert [v["file"] for v in job.payload["variables"] if v["key"] == "F"] == [True]

    def test_one_is_made_for_a_tag(self, project: Project, push: Push, runner: FakeRunner) -> None:
        push(message="first [ci skip]")
        project.tags.create({"tag_name": "v1", "ref": "main"})
        for pipeline in project.pipelines.list(all=True):
            pipeline.delete()
        made = project.pipelines.create({"ref": "v1"})
        assert made.tag is True
        payload = runner.take_one().payload
        assert payload["git_info"]["ref_type"] == "tag"
        assert "+refs/tags/v1:refs/tags/v1" in payload["git_info"]["refspecs"]

    @pytest.mark.parametrize(
        ("ci", "ref", "message"),
        [
            (None, "main", "Missing CI config file"),
            ("job: {script: [x]}\n", "nope", "Reference not found"),
            ("job:\n  scirpt: [x]\n", "main", "job"),
            ("job: {script: [x], rules: [{when: never}]}\n", "main", "Pipeline will not run"),
        ],
    )
    def test_what_makes_none_is_400(
        self, project: Project, admin: httpx.Client, push: Push, ci: str | None, ref: str, message: str
    ) -> None:
        if ci is None:
            action = {"action": "create", "file_path": "README.md", "content": "x"}
            project.commits.create({"branch": "main", "commit_message": "x", "actions": [action]})
        else:
            push(ci, message="x [ci skip]")
        answer = admin.post(f"/projects/{project.id}/pipeline", json={"ref": ref})
        assert answer.status_code == 400
        assert any(message in line for line in answer.json()["message"]["base"])

    def test_lists_and_one(self, project: Project, push: Push) -> None:
        first, second = push(), push(branch="feature", note="x")
        assert [p.id for p in project.pipelines.list(all=True)] == [second.id, first.id]
        assert [p.id for p in project.pipelines.list(ref="feature", all=True)] == [second.id]
        assert [p.id for p in project.pipelines.list(sha=first.sha, all=True)] == [first.id]
        assert [p.id for p in project.pipelines.list(scope="pending", sort="asc", all=True)] == [
            first.id,
            second.id,
        ]
        assert project.pipelines.list(status="success", all=True) == []
        assert project.pipelines.latest().id == first.id
        assert project.pipelines.latest(ref="feature").id == second.id
        assert first.web_url.endswith(f"/-/pipelines/{first.id}")
        assert first.detailed_status["text"] == "Pending"
        assert first.user["username"] == "root"

    def test_an_unknown_one_is_404(self, project: Project) -> None:
        with pytest.raises(gitlab.GitlabGetError, match="404"):
            project.pipelines.get(4711)

    def test_strangers_see_nothing_of_a_private_project(self, http: httpx.Client, project: Project) -> None:
        assert http.get(f"/projects/{project.id}/pipelines").status_code == 404
        assert http.post(f"/projects/{project.id}/pipeline", json={"ref": "main"}).status_code == 401

    def test_statuses_of_a_commit(self, project: Project, push: Push) -> None:
        pipeline = push(TWO_STAGES)
        found = project.commits.get(pipeline.sha).statuses.list(all=True)
        assert {(s.name, s.status) for s in found} == {("compile", "pending"), ("check", "created")}
        assert project.commits.get(pipeline.sha).last_pipeline["id"] == pipeline.id

    def test_lint(self, project: Project, push: Push, admin: httpx.Client) -> None:
        push(TWO_STAGES)
        good = admin.post(
            f"/projects/{project.id}/ci/lint", json={"content": TWO_STAGES, "include_jobs": True}
        )
        assert good.json()["valid"] is True
        assert [job["name"] for job in good.json()["jobs"]] == ["compile", "check"]
        bad = admin.post(f"/projects/{project.id}/ci/lint", json={"content": "job: {scirpt: x}"}).json()
        assert (bad["valid"], len(bad["errors"]) > 0) == (False, True)
        assert admin.get(f"/projects/{project.id}/ci/lint").json()["valid"] is True


class TestProgress:
    def test_stages_follow_each_other(self, project: Project, push: Push, runner: FakeRunner) -> None:
        pipeline = push(TWO_STAGES)
        assert statuses(project, pipeline) == {"compile": "pending", "check": "created"}
        assert runner.run().name == "compile"
        assert statuses(project, pipeline) == {"compile": "success", "check": "pending"}
        assert runner.run().name == "check"
        done = project.pipelines.get(pipeline.id)
        assert (done.status, done.finished_at is not None) == ("success", True)

    def test_a_failure_skips_what_follows(self, project: Project, push: Push, runner: FakeRunner) -> None:
        pipeline = push(TWO_STAGES)
        runner.run(state="failed", failure_reason="script_failure")
        assert statuses(project, pipeline) == {"compile": "failed", "check": "skipped"}
        assert project.pipelines.get(pipeline.id).status == "failed"

    def test_a_failure_that_is_allowed_does_not(
        self, project: Project, push: Push, runner: FakeRunner
    ) -> None:
        pipeline = push(TWO_STAGES.replace("[make]}", "[make], allow_failure: true}"))
        runner.run(state="failed", failure_reason="script_failure")
        runner.run()
        done = project.pipelines.get(pipeline.id)
        assert (done.status, done.detailed_status["label"]) == ("success", "passed with warnings")

    def test_an_exit_code_may_be_allowed_to_fail(
        self, project: Project, push: Push, runner: FakeRunner
    ) -> None:
        ci = "job: {script: [x], allow_failure: {exit_codes: [137]}}\n"
        pipeline = push(ci)
        runner.run(state="failed", failure_reason="script_failure", exit_code=137)
        assert project.pipelines.get(pipeline.id).status == "success"
        other = push(ci, note="x")
        runner.run(state="failed", failure_reason="script_failure", exit_code=1)
        assert project.pipelines.get(other.id).status == "failed"

    def test_on_failure_and_always(self, project: Project, push: Push, runner: FakeRunner) -> None:
        ci = TWO_STAGES + "rescue: {stage: test, script: [x], when: on_failure}\n"
        ci += "report: {stage: test, script: [x], when: always}\n"
        pipeline = push(ci)
        runner.run(state="failed", failure_reason="script_failure")
        assert statuses(project, pipeline) == {
            "compile": "failed",
            "check": "skipped",
            "rescue": "pending",
            "report": "pending",
        }

    def test_needs_go_ahead_of_stages(self, project: Project, push: Push, runner: FakeRunner) -> None:
        ci = """
stages: [build, test]
slow: {stage: build, script: [x]}
fast: {stage: build, script: [x]}
check: {stage: test, script: [x], needs: [fast]}
free: {stage: test, script: [x], needs: []}
"""
        pipeline = push(ci)
        assert statuses(project, pipeline) == {
            "slow": "pending",
            "fast": "pending",
            "check": "created",
            "free": "pending",
        }
        taken = {job.name: job for job in (runner.take_one(), runner.take_one(), runner.take_one())}
        taken["fast"].finish()
        assert statuses(project, pipeline)["check"] == "pending"

    def test_retry_of_itself(
        self, project: Project, push: Push, runner: FakeRunner, eventually: Callable[..., Any]
    ) -> None:
        pipeline = push("job: {script: [x], retry: {max: 1, when: [runner_system_failure]}}\n")
        first = runner.run(state="failed", failure_reason="runner_system_failure")
        second = eventually(runner.take)
        second.patch(b"x")
        second.finish("failed", failure_reason="runner_system_failure")
        assert first.id != second.id
        assert runner.take() is None
        assert project.pipelines.get(pipeline.id).status == "failed"
        assert len(project.pipelines.get(pipeline.id).jobs.list(all=True)) == 1
        assert len(project.pipelines.get(pipeline.id).jobs.list(all=True, include_retried=True)) == 2

    def test_a_manual_job_waits_to_be_played(
        self, project: Project, push: Push, runner: FakeRunner, admin: httpx.Client
    ) -> None:
        pipeline = push("deploy: {script: [x], when: manual}\n")
        assert (pipeline.status, runner.take()) == ("skipped", None)
        job = project.jobs.list(get_all=False)[0]
        given = {"job_variables_attributes": [{"key": "WHERE", "value": "prod"}]}
        assert admin.post(f"/projects/{project.id}/jobs/{job.id}/play", json=given).status_code == 200
        assert project.pipelines.get(pipeline.id).status == "pending"
        assert runner.run().variable("WHERE") == "prod"
        assert project.pipelines.get(pipeline.id).status == "success"

    def test_a_blocking_manual_job_blocks(self, project: Project, push: Push, runner: FakeRunner) -> None:
        ci = TWO_STAGES.replace("[make]}", "[make], when: manual, allow_failure: false}")
        pipeline = push(ci)
        assert pipeline.status == "manual"
        assert statuses(project, pipeline) == {"compile": "manual", "check": "created"}

    @pytest.mark.parametrize("limits", [CiLimits(upkeep_every_s=0.05)])
    def test_a_delayed_job_starts_by_itself(
        self, project: Project, push: Push, runner: FakeRunner, eventually: Any
    ) -> None:
        pipeline = push("job: {script: [x], when: delayed, start_in: 1 second}\n")
        assert pipeline.status == "scheduled"
        assert eventually(runner.take).name == "job"

    def test_dag_of_matrix_jobs(self, project: Project, push: Push, runner: FakeRunner) -> None:
        ci = """
stages: [train, pick]
train:
  stage: train
  script: [x]
  parallel:
    matrix: [{LR: ["0.1", "0.01"]}]
pick: {stage: pick, script: [x]}
"""
        pipeline = push(ci)
        taken = [runner.run(), runner.run()]
        assert {job.variable("LR") for job in taken} == {"0.1", "0.01"}
        assert {job.variable("CI_NODE_TOTAL") for job in taken} == {"2"}
        assert runner.run().name == "pick"
        assert project.pipelines.get(pipeline.id).status == "success"


class TestChanging:
    def test_cancel(self, project: Project, push: Push, runner: FakeRunner) -> None:
        pipeline = push(TWO_STAGES)
        job = runner.take_one()
        job.patch(b"x")
        pipeline.cancel()
        assert statuses(project, pipeline) == {"compile": "canceled", "check": "canceled"}
        assert project.pipelines.get(pipeline.id).status == "canceled"
        assert job.patch(b"y").status_code == 403

    def test_cancel_of_one_that_is_over_changes_nothing(
        self, project: Project, push: Push, runner: FakeRunner
    ) -> None:
        pipeline = push()
        runner.run()
        pipeline.cancel()
        assert project.pipelines.get(pipeline.id).status == "success"

    def test_retry_runs_again_what_failed(self, project: Project, push: Push, runner: FakeRunner) -> None:
        pipeline = push(TWO_STAGES)
        runner.run(state="failed", failure_reason="script_failure")
        pipeline.retry()
        assert statuses(project, pipeline) == {"compile": "pending", "check": "created"}
        runner.run()
        runner.run()
        assert project.pipelines.get(pipeline.id).status == "success"

    def test_retry_of_one_job_gives_the_skipped_ones_another_chance(
        self, project: Project, push: Push, runner: FakeRunner
    ) -> None:
        pipeline = push(TWO_STAGES)
        failed = runner.run(state="failed", failure_reason="script_failure")
        new = project.jobs.get(failed.id).retry()
        assert new["id"] != failed.id
        assert statuses(project, pipeline) == {"compile": "pending", "check": "created"}
        runner.run()
        assert statuses(project, pipeline)["check"] == "pending"

    def test_a_job_that_is_not_over_cannot_be_retried(
        self, project: Project, push: Push, admin: httpx.Client
    ) -> None:
        pipeline = push()
        job = job_named(project, pipeline, "hello")
        answer = admin.post(f"/projects/{project.id}/jobs/{job.id}/retry")
        assert (answer.status_code, answer.json()["message"]) == (403, "403 Forbidden - Job is not retryable")
        assert admin.post(f"/projects/{project.id}/jobs/{job.id}/play").status_code == 400
        assert admin.post(f"/projects/{project.id}/jobs/{job.id}/erase").status_code == 403

    def test_erase(self, project: Project, push: Push, runner: FakeRunner) -> None:
        push()
        job = runner.take_one()
        job.patch(b"log")
        job.upload(b"PK")
        job.finish()
        project.jobs.get(job.id).erase()
        erased = project.jobs.get(job.id)
        assert (erased.trace(), erased.attributes["artifacts"], erased.erased_at is not None) == (
            b"",
            [],
            True,
        )

    def test_delete(self, forge: RunningForge, project: Project, push: Push, runner: FakeRunner) -> None:
        pipeline = push()
        job = runner.take_one()
        job.patch(b"x")
        pipeline.delete()
        with pytest.raises(gitlab.GitlabGetError, match="404"):
            project.pipelines.get(pipeline.id)
        end = time.monotonic() + 60
        while job.patch(b"y").status_code != 403:
            assert time.monotonic() < end
        repository = forge.forge.repositories.path(project.id)
        assert not (repository / "refs" / "pipelines" / str(pipeline.id)).exists()

    def test_auto_cancel_on_failure(self, project: Project, push: Push, runner: FakeRunner) -> None:
        ci = "workflow: {auto_cancel: {on_job_failure: all}}\na: {script: [x]}\nb: {script: [x]}\n"
        pipeline = push(ci)
        runner.run(state="failed", failure_reason="script_failure")
        assert sorted(statuses(project, pipeline).values()) == ["canceled", "failed"]


class TestJobs:
    def test_lists_by_scope(self, project: Project, push: Push, runner: FakeRunner) -> None:
        push(TWO_STAGES)
        runner.run()
        assert [j.name for j in project.jobs.list(scope="success", all=True)] == ["compile"]
        assert {j.name for j in project.jobs.list(scope=["success", "pending"], all=True)} == {
            "compile",
            "check",
        }
        with pytest.raises(gitlab.GitlabListError, match="scope"):
            project.jobs.list(scope="sleepy", all=True)

    def test_all_that_gitlab_shows_of_a_job(self, project: Project, push: Push, runner: FakeRunner) -> None:
        pipeline = push("job: {script: [x], stage: test, tags: []}\n")
        job = project.jobs.get(runner.run().id)
        assert (job.name, job.stage, job.ref, job.tag) == ("job", "test", "main", False)
        assert job.pipeline["id"] == pipeline.id
        assert job.commit["id"] == pipeline.sha
        assert job.user["username"] == "root"
        assert job.runner["id"] == runner.id
        assert job.runner_manager["system_id"] == "s_fake"
        assert job.duration >= 0 and job.queued_duration >= 0
        assert job.web_url.endswith(f"/-/jobs/{job.id}")

    def test_the_job_of_a_token(
        self, http: httpx.Client, push: Push, runner: FakeRunner, project: Project
    ) -> None:
        push()
        job = runner.take_one()
        found = http.get("/job", headers={"JOB-TOKEN": job.token})
        assert (found.status_code, found.json()["id"]) == (200, job.id)
        assert http.get("/job").status_code == 401
        assert http.get("/job", headers={"JOB-TOKEN": "glcbt-no"}).status_code == 401
        job.finish()
        assert http.get("/job", headers={"JOB-TOKEN": job.token}).status_code == 401

    def test_another_token_has_no_job(self, admin: httpx.Client) -> None:
        answer = admin.get("/job")
        assert (answer.status_code, answer.json()) == (404, {"message": "404 Job Not Found"})

    def test_a_jobs_token_is_good_for_its_own_project_alone(
        self, http: httpx.Client, root: gitlab.Gitlab, push: Push, runner: FakeRunner, project: Project
    ) -> None:
        push()
        job = runner.take_one()
        other = root.projects.create({"name": f"other {project.id}"})
        head = {"JOB-TOKEN": job.token}
        assert http.get(f"/projects/{project.id}/jobs", headers=head).status_code == 200
        assert http.get(f"/projects/{other.id}/jobs", headers=head).status_code == 404
