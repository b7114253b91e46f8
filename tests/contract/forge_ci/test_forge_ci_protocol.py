"""The runner protocol, request by request, as spec/requests/api/ci/runner/*_spec.rb describes it."""

from __future__ import annotations

import asyncio
import math
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any, cast

import httpx
import psycopg
import pytest
from gitlab.v4.objects import Project

from nautilus_forge.jobs.limits import CiLimits
from nautilus_forge.jobs.upkeep import Upkeep
from nautilus_forge.jobs.wakeups import Listener
from nautilus_forge.testing.runner import FEATURES, FakeRunner
from nautilus_forge.testing.server import RunningForge
from nautilus_forge.testing.stored import files_below


class TestRequest:
    def test_no_token_is_400_and_a_wrong_one_403(self, http: httpx.Client) -> None:
        assert http.post("/jobs/request").status_code == 400
        assert http.post("/jobs/request", json={"token": "invalid"}).status_code == 403

    def test_no_job_is_204_with_the_queues_value(self, runner: FakeRunner) -> None:
        answer = runner.ask()
        assert answer.status_code == 204
        assert answer.headers["x-gitlab-last-update"]
        assert answer.headers["gitlab-ci-builds-polling"] == "yes"

    def test_a_paused_runner_gets_nothing(
        self, runner: FakeRunner, admin: httpx.Client, push: Callable[..., Any]
    ) -> None:
        push()
        admin.put(f"/runners/{runner.id}", json={"paused": True}).raise_for_status()
        assert runner.take() is None
        admin.put(f"/runners/{runner.id}", json={"paused": False}).raise_for_status()
        assert runner.take() is not None

    @pytest.mark.parametrize(
        ("values", "tags", "is_taken"),
        [
            ({}, [], True),
            ({}, ["gpu"], False),
            ({"tag_list": ["gpu"]}, ["gpu"], True),
            ({"tag_list": ["gpu", "a100"]}, ["gpu"], True),
            ({"tag_list": ["gpu"]}, ["gpu", "a100"], False),
            ({"tag_list": ["gpu"], "run_untagged": False}, [], False),
        ],
    )
    def test_tags_decide(
        self,
        runner: FakeRunner,
        admin: httpx.Client,
        push: Callable[..., Any],
        values: dict[str, Any],
        tags: list[str],
        is_taken: bool,
    ) -> None:
        push(f"job:\n  script: [x]\n  tags: {tags}\n" if tags else "job:\n  script: [x]\n")
        if values:
            admin.put(f"/runners/{runner.id}", json=values).raise_for_status()
        assert (runner.take() is not None) is is_taken

    def test_a_protected_runner_takes_jobs_of_protected_branches_alone(
        self, runner: FakeRunner, admin: httpx.Client, push: Callable[..., Any]
    ) -> None:
        push()
        push(branch="feature", note="other")
        admin.put(f"/runners/{runner.id}", json={"access_level": "ref_protected"}).raise_for_status()
        assert runner.take_one().payload["git_info"]["ref"] == "main"
        assert runner.take() is None

    def test_a_runner_of_another_project_gets_nothing(
        self, http: httpx.Client, root: Any, admin: httpx.Client, push: Callable[..., Any]
    ) -> None:
        push()
        other = root.projects.create({"name": "other"})
        made = admin.post(
            "/user/runners", json={"runner_type": "project_type", "project_id": other.id}
        ).json()
        assert FakeRunner(http, made["token"], made["id"]).take() is None

    @pytest.mark.alone
    def test_a_project_may_refuse_instance_runners(
        self, instance_runner: FakeRunner, project: Project, push: Callable[..., Any]
    ) -> None:
        push()
        project.shared_runners_enabled = False
        project.save()
        assert instance_runner.take() is None
        project.shared_runners_enabled = True
        project.save()
        assert instance_runner.take() is not None

    def test_a_job_that_needs_more_than_the_runner_can_do_fails(
        self, runner: FakeRunner, project: Project, push: Callable[..., Any]
    ) -> None:
        push("job:\n  script: [x]\n  artifacts:\n    paths: [a]\n    exclude: [a/b]\n")
        runner.features = {}
        assert runner.take() is None
        assert project.jobs.list(get_all=False)[0].failure_reason == "runner_unsupported"

    def test_form_parameters_do_as_well(self, http: httpx.Client, runner: FakeRunner, push: Any) -> None:
        push()
        assert http.post("/jobs/request", data={"token": runner.token}).status_code == 201

    def test_the_runner_is_seen(self, runner: FakeRunner, admin: httpx.Client, eventually: Any) -> None:
        runner.ask()
        eventually(lambda: admin.get(f"/runners/{runner.id}").json()["status"] == "online")


class TestTrace:
    @pytest.fixture
    def job(self, runner: FakeRunner, push: Callable[..., Any]) -> Any:
        push()
        return runner.take_one()

    def test_an_append_is_202_with_what_the_runner_needs(self, job: Any) -> None:
        answer = job.patch(b"BUILD TRACE")
        assert answer.status_code == 202
        assert answer.headers["range"] == "0-11"
        assert answer.headers["job-status"] == "running"
        assert float(answer.headers["x-gitlab-trace-update-interval"]) > 1

    def test_a_gap_is_416_with_the_length(self, job: Any) -> None:
        job.patch(b"BUILD TRACE")
        answer = job.patch(b"later", start=15)
        assert (answer.status_code, answer.headers["range"]) == (416, "0-11")

    def test_a_repetition_is_harmless(self, job: Any, project: Project) -> None:
        job.patch(b"once")
        assert job.patch(b"once", start=0).headers["range"] == "0-4"
        assert project.jobs.get(job.id).trace() == b"once"

    def test_a_missing_range_is_400(self, job: Any, http: httpx.Client) -> None:
        answer = http.patch(f"/jobs/{job.id}/trace", content=b"x", headers={"JOB-TOKEN": job.token})
        assert (answer.status_code, answer.json()) == (400, {"error": "400 Missing header Content-Range"})

    def test_a_wrong_token_is_403_and_so_is_a_job_that_is_none(self, job: Any, http: httpx.Client) -> None:
        head = {"Content-Range": "0-0"}
        wrong = http.patch(f"/jobs/{job.id}/trace", content=b"x", headers={**head, "JOB-TOKEN": "glcbt-no"})
        absent = http.patch("/jobs/4711/trace", content=b"x", headers={**head, "JOB-TOKEN": job.token})
        huge = http.patch(f"/jobs/{'9' * 30}/trace", content=b"x", headers={**head, "JOB-TOKEN": job.token})
        assert (wrong.status_code, absent.status_code, huge.status_code) == (403, 403, 403)
        assert job.patch(b"fine").status_code == 202

    def test_watching_asks_for_the_log_every_second(self, job: Any, project: Project) -> None:
        project.jobs.get(job.id).trace()
        assert job.patch(b"x").headers["x-gitlab-trace-update-interval"] == "1"

    def test_our_own_runner_takes_fractions(self, runner: FakeRunner, push: Any, project: Project) -> None:
        push()
        info = {"name": "nautilus-runner", "features": FEATURES}
        payload = runner.ask(info=info).json()
        head = {"JOB-TOKEN": payload["token"], "Content-Range": "0-0"}
        project.jobs.get(payload["id"]).trace()
        answer = runner.http.patch(f"/jobs/{payload['id']}/trace", content=b"x", headers=head)
        assert 0 < float(answer.headers["x-gitlab-trace-update-interval"]) < 1

    def test_after_the_end_it_is_403_with_the_status(self, job: Any) -> None:
        job.patch(b"x")
        job.finish()
        answer = job.patch(b"more")
        assert (answer.status_code, answer.headers["job-status"]) == (403, "success")

    @pytest.mark.parametrize("limits", [CiLimits(log_bytes=1000)])
    def test_a_log_over_the_limit_fails_the_job(self, job: Any, project: Project) -> None:
        assert job.patch(b"x" * 900).status_code == 202
        assert job.patch(b"x" * 200).status_code == 403
        failed = project.jobs.get(job.id)
        assert (failed.status, failed.failure_reason) == ("failed", "trace_size_exceeded")
        assert failed.trace() == b"x" * 900

    def test_ranges_of_the_log(self, job: Any, project: Project, admin: httpx.Client) -> None:
        job.patch(b"0123456789")
        url = f"/projects/{project.id}/jobs/{job.id}/trace"
        assert admin.get(url, headers={"Range": "bytes=4-"}).content == b"456789"
        assert admin.get(url, headers={"Range": "bytes=4-5"}).content == b"45"
        assert admin.get(url, headers={"Range": "bytes=10-"}).status_code == 416
        assert admin.get(url).headers["content-type"].startswith("text/plain")

    @pytest.mark.alone
    def test_the_gateway_sends_the_log(self, job: Any, project: Project, admin: httpx.Client) -> None:
        job.patch(b"0123456789")
        url = f"/projects/{project.id}/jobs/{job.id}/trace"
        answer = admin.get(url, headers={"X-Nautilus-Gateway": "1"})
        assert answer.headers["x-accel-redirect"] == f"/_forge/traces/{job.id // 1000}/{job.id}.log"
        assert answer.content == b""

    def test_a_job_without_log(self, job: Any, project: Project) -> None:
        assert project.jobs.get(job.id).trace() == b""


class TestMasking:
    @pytest.fixture
    def job(self, runner: FakeRunner, push: Callable[..., Any], project: Project) -> Any:
        project.variables.create({"key": "CANARY", "value": "canary-0123456789", "masked": True})
        push()
        return runner.take_one()

    def test_a_masked_variable_split_over_two_pieces_is_hidden(self, job: Any, project: Project) -> None:
        job.patch(b"before canary-0123")
        shown = project.jobs.get(job.id).trace()
        job.patch(b"456789 after\n")
        assert shown == b"before "
        assert project.jobs.get(job.id).trace() == b"before [MASKED]xxxxxxxxx after\n"

    def test_the_jobs_token_is_hidden(self, job: Any, project: Project) -> None:
        job.patch(f"token={job.token}\n".encode())
        assert job.token.encode() not in project.jobs.get(job.id).trace()

    def test_a_hidden_secret_is_no_damage_to_the_log(self, job: Any, project: Project) -> None:
        job.patch(b"x canary-0123456789 y\n")
        assert job.finish().status_code == 200
        assert project.jobs.get(job.id).status == "success"


class TestUpdate:
    @pytest.fixture
    def job(self, runner: FakeRunner, push: Callable[..., Any]) -> Any:
        push()
        return runner.take_one()

    def test_running_is_a_touch(self, job: Any) -> None:
        answer = job.put("running")
        assert (answer.status_code, answer.text) == (200, "200")
        assert answer.headers["job-status"] == "running"

    def test_success(self, job: Any, project: Project) -> None:
        answer = job.finish()
        assert (answer.status_code, answer.headers["job-status"]) == (200, "success")
        assert project.jobs.get(job.id).finished_at is not None

    @pytest.mark.parametrize(
        ("told", "stored"),
        [
            ("script_failure", "script_failure"),
            ("runner_system_failure", "runner_system_failure"),
            ("job_execution_timeout", "job_execution_timeout"),
            ("what_is_this", "unknown_failure"),
            (None, "unknown_failure"),
        ],
    )
    def test_failure_and_its_reason(self, job: Any, project: Project, told: str | None, stored: str) -> None:
        more = {"failure_reason": told, "exit_code": 3} if told else {}
        assert job.finish("failed", **more).status_code == 200
        failed = project.jobs.get(job.id)
        assert (failed.status, failed.failure_reason) == ("failed", stored)

    def test_what_is_not_known_is_ignored(self, job: Any) -> None:
        assert job.put("success", unknown="something").status_code == 200

    def test_a_missing_token_is_400(self, job: Any, http: httpx.Client) -> None:
        assert http.put(f"/jobs/{job.id}", json={"state": "success"}).status_code == 400

    def test_an_unknown_state_is_400(self, job: Any) -> None:
        assert job.put("sleeping").status_code == 400

    def test_after_the_end_it_is_403_and_nothing_changes(self, job: Any, project: Project) -> None:
        job.finish("failed", failure_reason="script_failure")
        answer = job.put("success")
        assert (answer.status_code, answer.headers["job-status"]) == (403, "failed")
        assert project.jobs.get(job.id).status == "failed"

    def test_a_job_that_is_none_is_403(self, job: Any, http: httpx.Client) -> None:
        assert http.put("/jobs/4711", json={"token": job.token, "state": "success"}).status_code == 403

    def test_a_log_that_does_not_match_is_sent_again(self, job: Any, project: Project) -> None:
        job.patch(b"damaged log")
        right = b"the right log, longer"
        output = {"checksum": f"crc32:{zlib.crc32(right):08x}", "bytesize": len(right)}
        assert job.put("success", checksum=output["checksum"], output=output).status_code == 412
        assert project.jobs.get(job.id).status == "running"
        job.sent = b""
        assert job.patch(right, start=0).status_code == 202
        assert job.put("success", checksum=output["checksum"], output=output).status_code == 200
        assert project.jobs.get(job.id).trace() == right

    def test_a_log_that_never_matches_is_taken_in_the_end(self, job: Any, project: Project) -> None:
        job.patch(b"damaged log")
        codes = [job.put("success", checksum="crc32:12345678").status_code for _ in range(4)]
        assert codes == [412, 412, 412, 200]
        assert project.jobs.get(job.id).trace() == b"damaged log"


def leases_run_out(forge: RunningForge) -> None:
    """So much time passes that no lease is left, and the upkeep looks at them."""
    url = forge.settings.database_url.get_secret_value().replace("+psycopg", "")
    with psycopg.connect(url) as db:
        db.execute("UPDATE ci_jobs SET lease_expires_at = lease_expires_at - make_interval(hours => 1)")
    upkeep = Upkeep(forge.forge.ci, cast(Listener, None), started_at=-math.inf)
    asyncio.run_coroutine_threadsafe(upkeep.end_leases(), forge.loop).result(60)


@pytest.mark.alone
class TestLease:
    def test_a_job_that_is_not_confirmed_is_offered_again_and_the_first_claimant_is_refused(
        self, forge: RunningForge, runner: FakeRunner, push: Callable[..., Any], project: Project
    ) -> None:
        push()
        lost = runner.take_one()
        assert runner.take() is None
        leases_run_out(forge)
        found = runner.take_one()
        assert (found.id, found.token != lost.token) == (lost.id, True)
        assert found.patch(b"second").status_code == 202
        assert lost.patch(b"first").status_code == 403
        assert lost.put("success").status_code == 403
        assert lost.upload(b"PK").status_code == 403
        assert found.finish().status_code == 200
        assert project.jobs.get(found.id).trace() == b"second"

    def test_the_first_write_confirms(
        self, forge: RunningForge, runner: FakeRunner, push: Callable[..., Any]
    ) -> None:
        push()
        job = runner.take_one()
        job.put("running")
        leases_run_out(forge)
        assert runner.take() is None
        assert job.finish().status_code == 200

    def test_the_pipeline_is_pending_again(
        self,
        forge: RunningForge,
        runner: FakeRunner,
        push: Callable[..., Any],
        project: Project,
        eventually: Any,
    ) -> None:
        pipeline = push()
        runner.take_one()
        eventually(lambda: project.pipelines.get(pipeline.id).status == "running")
        leases_run_out(forge)
        eventually(lambda: project.pipelines.get(pipeline.id).status == "pending")


class TestTwoPhases:
    @pytest.fixture
    def job(self, runner: FakeRunner, push: Callable[..., Any]) -> Any:
        runner.features["two_phase_job_commit"] = True
        push()
        return runner.take_one()

    def test_the_job_stays_pending_until_the_runner_is_ready(
        self, job: Any, runner: FakeRunner, project: Project
    ) -> None:
        assert project.jobs.get(job.id).status == "pending"
        assert runner.take() is None
        assert job.put("pending").status_code == 200
        assert job.put("success").status_code == 400
        assert job.put("running").status_code == 200
        assert project.jobs.get(job.id).status == "running"
        assert job.put("running").status_code == 200
        assert job.finish().status_code == 200

    def test_a_log_before_that_is_refused(self, job: Any) -> None:
        assert job.patch(b"early").status_code == 403

    def test_cancelled_before_that(self, job: Any, project: Project) -> None:
        project.jobs.get(job.id).cancel()
        answer = job.put("running")
        assert (answer.status_code, answer.headers["job-status"]) == (403, "canceled")

    @pytest.mark.alone
    def test_a_runner_that_never_is_ready_loses_the_job(
        self, forge: RunningForge, job: Any, runner: FakeRunner
    ) -> None:
        leases_run_out(forge)
        assert runner.take_one().id == job.id
        assert job.put("running").status_code == 403


class TestCancel:
    def test_a_runner_that_cannot_end_gracefully_is_told_to_stop(
        self, runner: FakeRunner, push: Callable[..., Any], project: Project
    ) -> None:
        push()
        job = runner.take_one()
        job.patch(b"x")
        project.jobs.get(job.id).cancel()
        answer = job.patch(b"y")
        assert (answer.status_code, answer.headers["job-status"]) == (403, "canceled")
        assert job.put("failed", failure_reason="unknown_failure").status_code == 403
        assert project.jobs.get(job.id).status == "canceled"

    def test_a_graceful_one_gets_its_time(
        self, runner: FakeRunner, push: Callable[..., Any], project: Project
    ) -> None:
        runner.features["cancel_gracefully"] = True
        pipeline = push()
        job = runner.take_one()
        job.patch(b"x")
        project.jobs.get(job.id).cancel()
        assert project.jobs.get(job.id).status == "canceling"
        answer = job.patch(b"after_script\n")
        assert (answer.status_code, answer.headers["job-status"]) == (202, "canceling")
        assert job.finish("failed", failure_reason="script_failure").headers["job-status"] == "canceled"
        assert project.jobs.get(job.id).status == "canceled"
        assert project.pipelines.get(pipeline.id).status == "canceled"

    def test_a_canceling_job_is_ended_by_force(
        self, runner: FakeRunner, push: Callable[..., Any], project: Project, admin: httpx.Client
    ) -> None:
        runner.features["cancel_gracefully"] = True
        push()
        job = runner.take_one()
        url = f"/projects/{project.id}/jobs/{job.id}/cancel"
        assert admin.post(url).json()["status"] == "canceling"
        assert admin.post(url, json={"force": True}).json()["status"] == "canceled"

    def test_a_held_touch_hears_of_it_at_once(
        self, runner: FakeRunner, push: Callable[..., Any], project: Project
    ) -> None:
        push()
        job = runner.take_one()
        job.put("running")
        answers: list[httpx.Response] = []
        thread = threading.Thread(
            target=lambda: answers.append(job.put("running", headers={"Prefer": "wait=20"}))
        )
        started = time.monotonic()
        thread.start()
        project.jobs.get(job.id).cancel()
        thread.join(60)
        assert answers[0].headers["job-status"] == "canceled"
        assert time.monotonic() - started < 15


class TestUpkeep:
    @pytest.mark.parametrize(
        "limits", [CiLimits(silence_s=0.4, silence_plain_s=0.4, upkeep_every_s=0.05, lease_s=60)]
    )
    def test_a_job_of_a_lost_runner_fails(
        self, runner: FakeRunner, push: Callable[..., Any], project: Project, eventually: Any
    ) -> None:
        push()
        job = runner.take_one()
        job.patch(b"x")
        eventually(lambda: project.jobs.get(job.id).status == "failed")
        assert project.jobs.get(job.id).failure_reason == "no_updates_running"

    @pytest.mark.parametrize("limits", [CiLimits(timeout_grace_s=-3599.5, upkeep_every_s=0.05)])
    def test_a_job_past_its_timeout_is_ended(
        self, runner: FakeRunner, push: Callable[..., Any], project: Project, eventually: Any
    ) -> None:
        push()
        job = runner.take_one()
        job.patch(b"x")
        eventually(
            lambda: (
                project.jobs.get(job.id).failure_reason == "job_execution_server_timeout"
                if (project.jobs.get(job.id).status == "failed")
                else False
            )
        )

    @pytest.mark.parametrize("limits", [CiLimits(stuck_s=0.3, upkeep_every_s=0.02)])
    def test_a_job_that_no_runner_will_ever_take_fails(
        self, push: Callable[..., Any], project: Project, runner: FakeRunner, eventually: Any
    ) -> None:
        push("job:\n  script: [x]\n  tags: [misspelt]\n")
        eventually(lambda: project.jobs.list(get_all=False)[0].status == "failed")
        assert project.jobs.list(get_all=False)[0].failure_reason == "stuck_pending_no_matching_runners"

    @pytest.mark.parametrize("limits", [CiLimits(upkeep_every_s=0.02)])
    def test_files_of_deleted_jobs_go(
        self,
        forge: RunningForge,
        runner: FakeRunner,
        push: Callable[..., Any],
        project: Project,
        eventually: Any,
    ) -> None:
        pipeline = push()
        job = runner.take_one()
        job.patch(b"x")
        job.upload(b"PK")
        job.finish()
        data = forge.settings.data_dir
        stored = [*files_below(data / "traces"), *files_below(data / "artifacts")]
        assert len(stored) == 2
        project.pipelines.get(pipeline.id).delete()
        eventually(lambda: not any(p.exists() for p in stored))
