"""Clients that we did not write, against the printed URL: mlflow from a laptop, gitlab-python-runner."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gitlab
import pytest

from nautilus.testing.command_line import Appliance

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]

LAPTOP = """
import json, pathlib, mlflow
mlflow.set_experiment("root/digits")
with mlflow.start_run(run_name="from a laptop – ü") as run:
    mlflow.log_params({"alpha": 0.5, "optimizer": "adam"})
    for step in range(20):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
    mlflow.set_tag("team", "vision")
    path = pathlib.Path("notes.txt")
    path.write_text("größe")
    mlflow.log_artifact(str(path), "notes")
client = mlflow.MlflowClient()
stored = client.get_run(run.info.run_id)
history = client.get_metric_history(run.info.run_id, "loss")
copied = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="notes/notes.txt")
good = "metrics.accuracy > 0.9"
found = mlflow.search_runs(experiment_names=["root/digits"], filter_string=good, output_format="list")
print(json.dumps({
    "params": stored.data.params, "loss": stored.data.metrics["loss"], "points": len(history),
    "status": stored.info.status, "artifact": pathlib.Path(copied).read_text(), "good": len(found),
}))
"""


def test_the_mlflow_client_logs_and_reads_from_a_laptop(appliance: Appliance, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LAPTOP],
        cwd=tmp_path,
        env=os.environ | {"MLFLOW_TRACKING_URI": appliance.url, "MLFLOW_TRACKING_TOKEN": appliance.token},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["params"] == {"alpha": "0.5", "optimizer": "adam"}
    assert (told["loss"], told["points"], told["status"], told["artifact"]) == (0.05, 20, "FINISHED", "größe")
    assert told["good"] >= 1


@pytest.fixture(scope="module")
def foreign_runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`gitlab-python-runner` from PyPI, in an environment of its own (its dependencies are not ours)."""
    folder = tmp_path_factory.mktemp("foreign")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    packages = ["gitlab-python-runner==14.3.20", "gitlab-emulator==0.11.1", "setuptools<81"]
    pip = [str(folder / "venv/bin/pip"), "install", "-q", *packages]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        pytest.skip(
            f"gitlab-python-runner cannot be had from the package index: {done.stderr.strip()[-200:]}"
        )
    return folder


def test_a_runner_that_we_did_not_write_registers_and_runs_a_job(
    appliance: Appliance, foreign_runner: Path
) -> None:
    token = appliance.cli.json("runner", "token")["token"]
    program = str(foreign_runner / "venv/bin/gitlab-runner.py")
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(foreign_runner), "LANG": "C.UTF-8"}
    register = [program, "--register", appliance.gitlab_url, "--regtoken", token, "--type", "shell"]
    done = subprocess.run(
        [*register, "--desc", "foreign", "--tag", "foreign"],
        env=environment,
        cwd=foreign_runner,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    client = gitlab.Gitlab(appliance.gitlab_url, private_token=appliance.token)
    project = client.projects.create({"name": "foreign", "initialize_with_readme": True})
    content = "hello:\n  tags: [foreign]\n  script:\n    - echo made by $CI_PROJECT_NAME\n"
    action = {"action": "create", "file_path": ".gitlab-ci.yml", "content": content}
    project.commits.create({"branch": "main", "commit_message": "CI", "actions": [action]})
    runner = subprocess.Popen([program, "--start", "gitlab-runner.yml"], env=environment, cwd=foreign_runner)
    try:
        deadline = time.monotonic() + 90
        status = ""
        while status not in ("success", "failed") and time.monotonic() < deadline:
            time.sleep(0.5)
            jobs = project.jobs.list(get_all=False)
            status = jobs[0].status if jobs else ""
        assert status == "success", appliance.cli.logs()
        assert b"made by foreign" in project.jobs.get(jobs[0].id).trace()
    finally:
        runner.send_signal(signal.SIGTERM)
        try:
            runner.wait(10)
        except subprocess.TimeoutExpired:
            runner.kill()
            runner.wait()
