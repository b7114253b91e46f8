"""What jobs report: tests, coverage, metrics. Source: GitLab spec/requests/api/ci/pipelines_spec.rb."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

import httpx
from gitlab.v4.objects import Project

from nautilus_forge.testing.runner import FakeRunner, TakenJob

Push = Callable[..., Any]
PASSED = (
    '<testsuite><testcase classname="c" name="a" time="1.5"/><testcase classname="c" name="b"/></testsuite>'
)
FAILED = '<testsuite><testcase classname="c" name="z" time="2"><failure>no</failure></testcase></testsuite>'
TESTS = "{script: [x], artifacts: {reports: {junit: j.xml}}"


def upload_report(job: TakenJob, xml: str, kind: str = "junit") -> None:
    content = gzip.compress(xml.encode())
    job.upload(content, f"{kind}.gz", artifact_type=kind, artifact_format="gzip").raise_for_status()


def test_the_tests_of_a_pipeline(project: Project, push: Push, runner: FakeRunner) -> None:
    pipeline = push(f"rspec: {TESTS}, parallel: 2}}\nlint: {TESTS}}}\n")
    documents = {"rspec 1/2": PASSED, "rspec 2/2": FAILED, "lint": "<testsuite"}
    ids = {}
    for _ in documents:
        job = runner.take_one()
        ids[job.name] = job.id
        upload_report(job, documents[job.name])
        job.finish()
    report = pipeline.test_report.get()
    assert (report.total_count, report.success_count, report.failed_count, report.total_time) == (
        3,
        2,
        1,
        3.5,
    )
    suites = {suite["name"]: suite for suite in report.test_suites}
    assert [case["name"] for case in suites["rspec"]["test_cases"]] == ["z", "a", "b"]
    assert suites["rspec"]["test_cases"][0] == {
        "status": "failed",
        "name": "z",
        "classname": "c",
        "file": None,
        "execution_time": 2.0,
        "system_output": "no",
        "stack_trace": None,
        "recent_failures": None,
    }
    assert suites["lint"]["suite_error"].startswith("JUnit XML parsing failed")
    for _ in range(2):
        summary = pipeline.test_report_summary.get()
        assert summary.total["count"] == 3 and summary.total["failed"] == 1
        by_name = {suite["name"]: suite for suite in summary.test_suites}
        assert by_name["rspec"]["build_ids"] == [ids["rspec 1/2"], ids["rspec 2/2"]]
        assert by_name["lint"]["suite_error"] is not None


def test_a_pipeline_without_reports_has_none(project: Project, push: Push) -> None:
    pipeline = push()
    assert pipeline.test_report.get().test_suites == []
    assert pipeline.test_report_summary.get().total["count"] == 0


def test_coverage_is_read_from_the_log(project: Project, push: Push, runner: FakeRunner) -> None:
    pipeline = push(
        "a: {script: [x], coverage: '/covered (\\d+.\\d+)%/'}\nb: {script: [x], coverage: '/none/'}\n"
    )
    first = runner.run(log=b"covered 10.0%\ncovered 81.5%\nend\n")
    runner.run(log=b"nothing\n")
    assert project.jobs.get(first.id).coverage == 81.5
    assert project.pipelines.get(pipeline.id).coverage == "81.50"


def test_metrics_are_kept_and_told(
    project: Project, push: Push, runner: FakeRunner, admin: httpx.Client
) -> None:
    push("a: {script: [x], artifacts: {reports: {metrics: m.txt}}}")
    job = runner.take_one()
    upload_report(job, "accuracy 0.9\n", "metrics")
    job.finish()
    shown = admin.get(f"/projects/{project.id}/jobs/{job.id}").json()["artifacts"]
    assert [(a["file_type"], a["file_format"], a["filename"]) for a in shown] == [
        ("metrics", "gzip", "metrics.gz")
    ]
