"""The answer to a runner that gets a job."""

from __future__ import annotations

import dataclasses
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nautilus_forge.ci.model import Artifacts, Cache, CompiledJob, Image, Need, Retry, Variable, When
from nautilus_forge.jobs import definition
from nautilus_forge.jobs.failures import known_reason, may_retry
from nautilus_forge.jobs.payload import Claim, Dependency, build_payload, git_depth, refspecs, repo_url

JOB = CompiledJob(name="train", stage="test", stage_idx=1, script=("python train.py",))


def claim(job: CompiledJob = JOB, **more: Any) -> Claim:
    values: dict[str, Any] = {
        "id": 7,
        "token": "glcbt-secret",
        "job": job,
        "pipeline_id": 3,
        "project_id": 2,
        "project_name": "digits",
        "project_path": "root/digits",
        "namespace_id": 1,
        "root_namespace_id": 1,
        "user_id": 1,
        "ref": "main",
        "is_tag": False,
        "is_protected": True,
        "sha": "a" * 40,
        "before_sha": "0" * 40,
        "external_url": "http://localhost:10080",
        "timeout_s": 3600,
    }
    return Claim(**{**values, **more})


def test_all_parts_are_there() -> None:
    payload = build_payload(claim())
    assert set(payload) >= {
        "id",
        "token",
        "allow_git_fetch",
        "job_info",
        "git_info",
        "runner_info",
        "variables",
        "steps",
        "hooks",
        "image",
        "services",
        "artifacts",
        "cache",
        "credentials",
        "dependencies",
        "features",
    }
    assert payload["runner_info"]["timeout"] == 3600
    assert payload["job_info"]["project_jobs_running_on_instance_runners_count"] == "+Inf"
    assert "script_failure" in payload["features"]["failure_reasons"]
    assert payload["features"]["trace_sections"] is True


def test_steps() -> None:
    job = dataclasses.replace(JOB, before_script=("a",), script=("b", "c"), after_script=("d",))
    script, after = build_payload(claim(job))["steps"]
    assert script == {
        "name": "script",
        "script": ["a", "b", "c"],
        "timeout": 3600,
        "when": "on_success",
        "allow_failure": False,
    }
    assert (after["name"], after["when"], after["allow_failure"]) == ("after_script", "always", True)


def test_git_of_a_branch() -> None:
    info = build_payload(claim())["git_info"]
    assert info["repo_url"] == "http://gitlab-ci-token:glcbt-secret@localhost:10080/root/digits.git"
    assert info["refspecs"] == [
        "+refs/pipelines/3:refs/pipelines/3",
        "+refs/heads/main:refs/remotes/origin/main",
    ]
    assert (info["ref_type"], info["depth"], info["protected"]) == ("branch", 20, True)


def test_git_of_a_tag_and_of_everything() -> None:
    assert refspecs(3, "v1", True, 20)[1] == "+refs/tags/v1:refs/tags/v1"
    assert refspecs(3, "main", False, 0)[1:] == [
        "+refs/heads/*:refs/remotes/origin/*",
        "+refs/tags/*:refs/tags/*",
    ]


def test_the_url_keeps_a_path_and_a_port() -> None:
    assert repo_url("https://h:8443/git", "a/b", "t") == "https://gitlab-ci-token:t@h:8443/git/a/b.git"


@pytest.mark.parametrize(("value", "depth"), [("1", 1), ("0", 0), ("all", 0), ("", 0), ("-3", 0)])
def test_the_depth_may_be_a_variable(value: str, depth: int) -> None:
    assert git_depth([Variable("GIT_DEPTH", "9"), Variable("GIT_DEPTH", value)], 20) == depth
    assert git_depth([], 20) == 20


def test_image_and_services() -> None:
    image = Image("python:3.13", entrypoint=("",), pull_policy=("if-not-present",), docker_user="dave")
    service = Image("postgres:16", alias="db", command=("x",), variables={"A": "1"})
    payload = build_payload(claim(dataclasses.replace(JOB, image=image, services=(service,))))
    assert payload["image"] == {
        "name": "python:3.13",
        "entrypoint": [""],
        "ports": [],
        "executor_opts": {"docker": {"user": "dave"}},
        "pull_policy": ["if-not-present"],
    }
    assert payload["services"][0] == {
        "name": "postgres:16",
        "entrypoint": None,
        "ports": [],
        "executor_opts": {},
        "pull_policy": None,
        "alias": "db",
        "command": ["x"],
        "variables": [{"key": "A", "value": "1"}],
    }
    assert build_payload(claim())["image"] is None


def test_an_archive_and_a_report_each() -> None:
    artifacts = Artifacts(
        paths=("out/",),
        exclude=("out/tmp",),
        expire_in="7d",
        reports={"junit": ("j.xml",), "dotenv": ("a.env",)},
    )
    archive, junit, dotenv = build_payload(claim(dataclasses.replace(JOB, artifacts=artifacts)))["artifacts"]
    assert (archive["artifact_type"], archive["artifact_format"], archive["exclude"]) == (
        "archive",
        "zip",
        ["out/tmp"],
    )
    assert (junit["name"], junit["artifact_format"], junit["when"]) == ("junit.xml", "gzip", "always")
    assert (dotenv["artifact_type"], dotenv["paths"], dotenv["expire_in"]) == ("dotenv", ["a.env"], "7d")


def test_no_exclude_where_there_is_none() -> None:
    (archive,) = build_payload(claim(dataclasses.replace(JOB, artifacts=Artifacts(paths=("a",)))))[
        "artifacts"
    ]
    assert "exclude" not in archive


def test_caches_of_protected_refs_are_apart() -> None:
    job = dataclasses.replace(JOB, cache=(Cache(key="deps", paths=("v/",), fallback_keys=("old",)),))
    assert build_payload(claim(job))["cache"][0]["key"] == "deps-protected"
    loose = build_payload(claim(job, is_protected=False))["cache"][0]
    assert (loose["key"], loose["fallback_keys"]) == ("deps-non_protected", ["old-non_protected"])


def test_dependencies_carry_the_token_of_the_job_that_runs() -> None:
    needed = (Dependency(5, "build", "a.zip", 10), Dependency(6, "lint"))
    first, second = build_payload(claim(dependencies=needed))["dependencies"]
    assert first == {
        "id": 5,
        "name": "build",
        "token": "glcbt-secret",
        "artifacts_file": {"filename": "a.zip", "size": 10},
    }
    assert "artifacts_file" not in second


def test_a_job_survives_being_stored() -> None:
    job = dataclasses.replace(
        JOB,
        when=When.MANUAL,
        image=Image("i", entrypoint=("a",)),
        services=(Image("s", variables={"A": "1"}),),
        needs=(Need("a", artifacts=False),),
        artifacts=Artifacts(paths=("x",), reports={"junit": ("j",)}),
        cache=(Cache(paths=("c",)),),
        retry=Retry(2, ("always",), (3,)),
        variables=(Variable("A", "b", raw=True),),
        tags=("gpu",),
    )
    stored = orjson.loads(orjson.dumps(definition.to_json(job)))
    assert definition.from_json(stored) == job
    assert definition.from_json({**stored, "from_the_future": 1}) == job


@given(st.lists(st.text()), st.text(min_size=1), st.integers(0, 9))
def test_any_job_survives_being_stored(script: list[str], name: str, stage: int) -> None:
    job = CompiledJob(name=name, stage=name, stage_idx=stage, script=tuple(script), needs=())
    assert definition.from_json(definition.to_json(job)) == job


@pytest.mark.parametrize(
    ("retry", "reason", "exit_code", "tries", "again"),
    [
        (Retry(), "script_failure", 1, 0, False),
        (Retry(), "scheduler_failure", None, 1, True),
        (Retry(), "scheduler_failure", None, 2, False),
        (Retry(1, ("script_failure",)), "scheduler_failure", None, 1, True),
        (Retry(1), "script_failure", 1, 0, True),
        (Retry(1), "script_failure", 1, 1, False),
        (Retry(2, ("runner_system_failure",)), "script_failure", 1, 0, False),
        (Retry(2, ("runner_system_failure",)), "runner_system_failure", None, 1, True),
        (Retry(2, ("always",)), "anything", None, 1, True),
        (Retry(2, (), (137,)), "script_failure", 137, 0, True),
        (Retry(2, (), (137,)), "script_failure", 1, 0, False),
    ],
)
def test_retry_of_itself(retry: Retry, reason: str, exit_code: int | None, tries: int, again: bool) -> None:
    assert may_retry(retry, reason, exit_code, tries) is again


def test_reasons_that_nobody_knows() -> None:
    assert known_reason("what_is_this") == "unknown_failure"
    assert known_reason(None) == "unknown_failure"
