"""The journey of a newcomer: one command, real results; then the same again, quickly; then down, leaving nothing."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import gitlab
import httpx
import pytest

from nautilus.appliance.processes import family
from nautilus.testing.command_line import Appliance

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]


def test_the_sweep_has_real_results(appliance: Appliance) -> None:
    experiments = appliance.demo["experiments"]
    assert len(experiments) >= 4
    assert {e["state"] for e in experiments} == {"succeeded"}
    accuracies = [e["metrics"]["accuracy"] for e in experiments]
    assert all(0.1 < accuracy <= 1 for accuracy in accuracies)
    assert len(set(accuracies)) > 1
    assert appliance.demo["best"]["metrics"]["accuracy"] == max(accuracies) >= 0.9
    assert len({tuple(sorted(e["params"].items())) for e in experiments}) == len(experiments)


def test_the_result_has_the_documented_shape(appliance: Appliance) -> None:
    assert set(appliance.demo) == {
        "url",
        "user",
        "password_command",
        "executor",
        "runner_token_command",
        "experiments",
        "best",
    }
    assert set(appliance.demo["experiments"][0]) == {"id", "params", "metrics", "state", "duration_s", "url"}


def test_health_is_ready_at_the_gateway(appliance: Appliance) -> None:
    answer = httpx.get(f"{appliance.url}/-/health", headers={"Accept": "application/json"})
    assert answer.status_code == 200
    components = {c["name"]: c["state"] for c in answer.json()["components"]}
    assert set(components) >= {"postgres", "forge", "management", "gateway", "runner", "provision"}
    assert set(components.values()) == {"ready"}


def test_status_has_the_documented_shape(appliance: Appliance) -> None:
    status = appliance.cli.json("status")
    assert set(status) == {"ready", "url", "services"}
    assert status["ready"] is True
    assert status["url"] == appliance.url
    services = {s["name"]: s for s in status["services"]}
    assert set(services) >= {"postgres", "git", "forge", "management", "gateway", "runner", "provision"}
    assert set(services["forge"]) == {"name", "state", "pid", "uptime_s", "pss_mib", "detail"}


def test_the_other_commands_speak_json_too(appliance: Appliance) -> None:
    token = appliance.cli.json("runner", "token")
    assert set(token) == {"token", "url", "enabled"}
    assert token["enabled"] is True
    made = appliance.cli.json("token", "create", "--scopes", "read_api")
    assert set(made) == {"token", "scopes", "expires_at"}
    assert made["scopes"] == ["read_api"]
    assert appliance.cli.json("user", "password")["user"] == "root"
    assert [r["description"] for r in appliance.cli.json("runner", "list")].count("bundled") == 1
    assert {f["state"] for f in appliance.cli.json("doctor")} <= {"ok", "warning"}


def test_python_gitlab_sees_the_project_its_pipeline_the_log_and_the_artifacts(appliance: Appliance) -> None:
    client = gitlab.Gitlab(appliance.gitlab_url, private_token=appliance.token)
    client.auth()
    assert client.user is not None and client.user.username == "root"
    [project] = [p for p in client.projects.list(get_all=True) if p.name == "digits"]
    pipeline = project.pipelines.list(ref="main", get_all=False)[0]
    assert pipeline.status == "success"
    job = project.jobs.get(pipeline.jobs.list(get_all=False)[0].id)
    assert b"Job succeeded" in job.trace()
    with_artifacts = [j for j in project.jobs.list(get_all=True) if j.attributes.get("artifacts_file")]
    assert with_artifacts
    assert project.jobs.get(with_artifacts[0].id).artifacts()[:2] == b"PK"


def test_a_wrong_token_is_told_so(appliance: Appliance) -> None:
    with pytest.raises(gitlab.GitlabAuthenticationError):
        gitlab.Gitlab(appliance.gitlab_url, private_token="glpat-wrong").auth()
    answer = httpx.get(f"{appliance.url}/api/v1/experiments", headers={"Authorization": "Bearer glpat-wrong"})
    assert answer.status_code == 401
    assert answer.json()["message"]


def test_git_clones_and_pushes_with_a_token_and_is_refused_without(
    appliance: Appliance, tmp_path: Path
) -> None:
    url = appliance.gitlab_url.replace("http://", f"http://root:{appliance.token}@") + "/root/digits.git"
    git = ["git", "-c", "credential.helper=", "-c", "user.name=t", "-c", "user.email=t@localhost"]
    subprocess.run([*git, "clone", "-q", url, str(tmp_path / "tree")], check=True)
    (tmp_path / "tree" / "größe.txt").write_text("42\n")
    in_tree = [*git, "-C", str(tmp_path / "tree")]
    subprocess.run([*in_tree, "checkout", "-q", "-b", "feature"], check=True)
    subprocess.run([*in_tree, "add", "."], check=True)
    subprocess.run([*in_tree, "commit", "-q", "-m", "A file [skip ci]"], check=True)
    subprocess.run([*in_tree, "push", "-q", "origin", "feature"], check=True)
    refused = subprocess.run(
        [*git, "clone", "-q", f"{appliance.gitlab_url}/root/digits.git", str(tmp_path / "other")],
        env={"GIT_TERMINAL_PROMPT": "0", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert refused.returncode != 0


def test_the_second_run_takes_less_than_half_a_minute(appliance: Appliance) -> None:
    began = time.monotonic()
    again = appliance.cli.json("demo")
    assert time.monotonic() - began < 30
    assert again["best"]["metrics"]["accuracy"] >= 0.9


def test_down_leaves_no_process_and_up_brings_everything_back(appliance: Appliance) -> None:
    before = {e["id"] for e in appliance.cli.json("experiments", "list")}
    assert appliance.cli.json("down") == {"stopped": True}
    assert family(appliance.cli.home) == []
    stopped = appliance.cli.run("status", "--json")
    assert stopped.returncode == 6
    assert appliance.cli.json("up")["ready"] is True
    assert before <= {e["id"] for e in appliance.cli.json("experiments", "list")}
