"""An appliance of an earlier schema (data/README.md) under the present image: everything is there, and goes on."""

from __future__ import annotations

import io
import json
import lzma
import subprocess
import zipfile
from pathlib import Path

import httpx
import pytest

from nautilus.testing.containers import docker
from nautilus.testing.in_docker import Container, sign_in, wait_for

pytestmark = [pytest.mark.image, pytest.mark.timeout(300)]

ARCHIVE = Path(__file__).parent / "data" / "schema-0002-0003.tar.xz"

RESTORE = """
set -eu
mkdir /tmp/dump
tar -x --same-owner --numeric-owner -f - -C /tmp/dump
cd /var/opt/nautilus
cp -a /tmp/dump/home/. .
mkdir postgres run && chown nautilus:nautilus . postgres run
setpriv --reuid=nautilus --regid=nautilus --clear-groups sh -euc '
    bin=/usr/lib/postgresql/17/bin; data=/var/opt/nautilus/postgres
    $bin/initdb --pgdata=$data --username=nautilus --encoding=UTF8 --locale=C.UTF-8 --auth=trust >/dev/null
    $bin/pg_ctl -D $data -o "-c listen_addresses= -c unix_socket_directories=/tmp" -w -l /dev/null start >/dev/null
    for database in forge nautilus; do
        $bin/createdb -h /tmp -U nautilus $database
        $bin/psql -q -v ON_ERROR_STOP=1 -h /tmp -U nautilus -d $database -f /tmp/dump/$database.sql >/dev/null
    done
    $bin/pg_ctl -D $data -w stop >/dev/null'
"""


@pytest.fixture(scope="module")
def upgraded(prefix: str, address: str, lite_image: str) -> Container:
    """The earlier appliance's volume, made from the archive, and the present image started on it."""
    volume = f"{prefix}-data:/var/opt/nautilus"
    done = subprocess.run(
        ["docker", "run", "-i", "--rm", "--volume", volume, lite_image, "sh", "-c", RESTORE],
        input=lzma.decompress(ARCHIVE.read_bytes()),
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()
    argv = [
        *("run", "-d", "--name", prefix, "--volume", volume),
        *("--volume", "/var/run/docker.sock:/var/run/docker.sock"),
        *("--publish", f"{address}:80:80", "--publish", f"{address}:10080:10080"),
        *("--env", f"NAUTILUS_EXTERNAL_URL=http://{address}", lite_image),
    ]
    container = Container(prefix, address, argv)
    container.start()
    return container


@pytest.fixture(scope="module")
def api(upgraded: Container) -> httpx.Client:
    return upgraded.api()


def test_both_databases_are_at_the_images_head(upgraded: Container) -> None:
    for service, database in (("forge", "forge"), ("management", "nautilus")):
        listed = docker(
            "exec", upgraded.name, "sh", "-c", f"ls /opt/nautilus/migrations/{service}/versions/*.py"
        )
        head = max(Path(line).name[:4] for line in listed.split())
        query = "select version_num from alembic_version"
        argv = ("psql", "-h", "/var/opt/nautilus/run/postgres", "-d", database, "-Atc", query)
        assert docker("exec", "--user", "nautilus", upgraded.name, *argv).strip() == head


def test_the_repository_its_pipeline_and_its_artifacts_are_there(api: httpx.Client) -> None:
    [project] = api.get("/api/v4/projects").json()
    assert project["path_with_namespace"] == "root/harbour"
    branch = api.get(f"/api/v4/projects/{project['id']}/repository/branches/main").json()
    assert branch["commit"]["title"] == "Measure the tide"
    [job] = api.get(f"/api/v4/projects/{project['id']}/pipelines/1/jobs").json()
    assert job["status"] == "success"
    assert "the tide is high" in api.get(f"/api/v4/projects/{project['id']}/jobs/{job['id']}/trace").text
    packed = api.get(f"/api/v4/projects/{project['id']}/jobs/{job['id']}/artifacts")
    with zipfile.ZipFile(io.BytesIO(packed.content)) as archive:
        assert archive.read("out/tide.csv") == b"level,4.2\n"
    [variable] = api.get(f"/api/v4/projects/{project['id']}/variables").json()
    assert (variable["key"], variable["value"]) == ("SEA", "north")


def test_the_experiments_their_metrics_and_models_are_there(api: httpx.Client) -> None:
    experiments = api.get("/api/v1/experiments").json()
    assert {(e["params"]["depth"], e["state"], e["metrics"]["accuracy"]) for e in experiments} == {
        (3, "succeeded", 0.9),
        (5, "succeeded", 0.9),
    }
    run = experiments[0]["mlflow_run_id"]
    asked = {"run_id": run, "metric_key": "accuracy"}
    points = api.get("/api/2.0/mlflow/metrics/get-history", params=asked).json()["metrics"]
    assert [point["value"] for point in points] == [0.5, 0.6, 0.7, 0.8, 0.9]
    model = api.get(f"/api/2.0/mlflow-artifacts/artifacts/1/{run}/artifacts/model/weights.txt")
    assert model.text == "w" * 1000


def test_its_people_sign_in_as_before(upgraded: Container) -> None:
    browser = sign_in(upgraded.web_url, "ada", "tide-tables-1843")
    assert [p["path_with_namespace"] for p in browser.get("/api/v1/projects").json()] == ["root/harbour"]


def test_its_runner_is_the_same_one_and_runs_the_next_experiment(
    upgraded: Container, api: httpx.Client
) -> None:
    asked = {"project": "root/harbour", "command": "python train.py {depth}", "params": {"depth": 7}}
    [made] = api.post("/api/v1/experiments", json=asked).json()["experiments"]

    def ended() -> dict[str, object] | None:
        found = dict(api.get(f"/api/v1/experiments/{made['id']}").json())
        return found if found["state"] in ("succeeded", "failed", "canceled") else None

    assert wait_for("the experiment ends", ended, timeout_s=90)["state"] == "succeeded"
    assert len(json.loads(upgraded.nautilus("runner", "list", "--json"))) == 1
