"""The power goes in the middle of work: the next start heals, and nothing that was acknowledged is lost."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from nautilus.testing.containers import docker
from nautilus.testing.in_docker import Container, wait_for

pytestmark = [pytest.mark.image, pytest.mark.timeout(300)]

SLOW_TRAINING = (
    'python -u -c "\nimport mlflow, time\nfor step in range(120):\n'
    "    print('step', step)\n    time.sleep(0.1)\nmlflow.log_metric('accuracy', 0.9)\n\""
)


@pytest.fixture(scope="module")
def appliance(prefix: str, address: str, lite_image: str) -> Container:
    argv = [
        *("run", "-d", "--name", prefix, "--volume", f"{prefix}-data:/var/opt/nautilus"),
        *("--volume", "/var/run/docker.sock:/var/run/docker.sock"),
        *("--publish", f"{address}:80:80", "--publish", f"{address}:10080:10080"),
        *("--env", f"NAUTILUS_EXTERNAL_URL=http://{address}", lite_image),
    ]
    container = Container(prefix, address, argv)
    container.start()
    return container


class Pushing(threading.Thread):
    """Commits to the project over the API, one after another, until the server goes; keeps what was acknowledged."""

    def __init__(self, api: httpx.Client, project: int) -> None:
        super().__init__()
        self.api, self.project = api, project
        self.acknowledged: list[str] = []

    def run(self) -> None:
        for number in range(10_000):
            action = {"action": "create", "file_path": f"notes/{number}.txt", "content": str(number)}
            body = {"branch": "main", "commit_message": f"Note {number}", "actions": [action]}
            try:
                answer = self.api.post(f"/api/v4/projects/{self.project}/repository/commits", json=body)
            except httpx.HTTPError:
                return
            if answer.status_code != 201:
                return
            self.acknowledged.append(answer.json()["id"])


def commits_of(api: httpx.Client, project: int) -> set[str]:
    found: set[str] = set()
    for page in range(1, 200):
        rows = api.get(
            f"/api/v4/projects/{project}/repository/commits", params={"per_page": 100, "page": page}
        ).json()
        found |= {row["id"] for row in rows}
        if len(rows) < 100:
            break
    return found


def test_a_kill_in_the_middle_of_work_loses_nothing_that_was_acknowledged(appliance: Container) -> None:
    token = appliance.secret("admin_token")
    with appliance.api(token) as api:
        project = api.post("/api/v1/projects", json={"name": "harbour", "template": "empty"}).json()["id"]
        asked: dict[str, Any] = {"project": "root/harbour", "command": SLOW_TRAINING}
        [experiment] = api.post("/api/v1/experiments", json=asked).json()["experiments"]
        number = experiment["id"]
        wait_for("the training prints", lambda: "step 5" in api.get(f"/api/v1/experiments/{number}/log").text)
        pushing = Pushing(api, project)
        pushing.start()
        wait_for("some commits", lambda: len(pushing.acknowledged) >= 5)
        appliance.kill()
        pushing.join(30)
    assert appliance.start() <= 30
    with appliance.api(token) as api:
        assert set(pushing.acknowledged) <= commits_of(api, project)
        ended = wait_for("the experiment ends", lambda: ended_experiment(api, number), timeout_s=120)
        log = api.get(f"/api/v1/experiments/{number}/log").text
        runners = api.get("/api/v4/runners/all").json()
    # The sibling container ran on: either its whole result came in, or the experiment says why not.
    if ended["state"] == "succeeded":
        assert [line for line in log.splitlines() if line.startswith("step ")] == [
            f"step {n}" for n in range(120)
        ]
        assert ended["metrics"] == {"accuracy": 0.9}
    else:
        assert ended["state"] == "failed" and ended["reason"]
    assert len(runners) == 1
    ours = f"label=org.nautilus.runner.system-id={appliance.secret('../runner/system_id')}"
    of_jobs = ("ps", "--filter", ours, "--format", '{{.Label "org.nautilus.runner.job"}}')

    def is_gone() -> bool:
        return not any(key.endswith(f"-{ended['job_id']}") for key in docker(*of_jobs).split())

    wait_for("the job's container goes", is_gone)


def ended_experiment(api: httpx.Client, number: int) -> dict[str, Any] | None:
    found = dict(api.get(f"/api/v1/experiments/{number}").json())
    return found if found["state"] in ("succeeded", "failed", "canceled") else None


def test_the_healed_appliance_runs_the_next_experiment(appliance: Container) -> None:
    told = appliance.nautilus(
        "run", "echo healed", "--project", "root/harbour", "--detach", "--json", timeout_s=60
    )
    found = json.loads(told.splitlines()[-1])
    number = (found["experiments"][0] if "experiments" in found else found)["id"]
    with appliance.api() as api:
        ended = wait_for("it ends", lambda: ended_experiment(api, number), timeout_s=90)
    assert ended["state"] == "succeeded"


def test_data_lies_on_the_volume_alone(appliance: Container) -> None:
    volumes = {mount["Name"] for mount in appliance.inspect()["Mounts"] if mount["Type"] == "volume"}
    assert volumes == {f"{appliance.name}-data"}
    folder = json.loads(docker("volume", "inspect", f"{appliance.name}-data"))[0]["Mountpoint"]
    assert (Path(folder) / "postgres" / "PG_VERSION").exists()
    changed = docker("diff", appliance.name).split("\n")
    ours = [line for line in changed if line[2:].startswith(("/opt/nautilus", "/usr", "/etc/nautilus"))]
    assert not ours, "the appliance wrote into the image's own folders"
