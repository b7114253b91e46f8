"""What was acknowledged is there after PostgreSQL was killed, and tracking needs no restart."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from nautilus.appliance import accounts, postgres, schema
from nautilus.testing.tracking_server import tracking_server

pytestmark = pytest.mark.drill
KILLS = 5
LOG_BATCH = "/api/2.0/mlflow/runs/log-batch"


class Cluster:
    """A PostgreSQL of its own, with the appliance's settings: durable, and ours to kill."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._who = accounts.ensure_accounts() if os.geteuid() == 0 else None
        self._binaries = postgres.binaries_for(Path("/nonexistent"), postgres.installed_binaries())
        folder.chmod(0o755)
        if self._who is not None:
            os.chown(folder, self._who.service_uid, -1)
        self._run(postgres.initdb_argv(self._binaries, folder / "data"))
        (folder / "data" / "pg_hba.conf").write_text("local all all trust\n")
        self.start()
        self._psql("create database nautilus")
        schema.ensure_schema(self.conninfo("nautilus"), "management")

    def conninfo(self, database: str) -> str:
        return f"host={self._folder} user={postgres.ROLE} dbname={database}"

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://{postgres.ROLE}@/nautilus?host={self._folder}"

    def start(self) -> None:
        argv = postgres.server_argv(self._binaries, self._folder / "data", self._folder)
        argv[argv.index("unix_socket_permissions=0700")] = "unix_socket_permissions=0777"
        self._server = subprocess.Popen(argv, stderr=subprocess.DEVNULL, cwd="/", **self._owner())
        deadline = time.monotonic() + 60
        while True:
            try:
                self._psql("select 1")
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """SIGKILL to the postmaster; its children notice and end."""
        self._server.send_signal(signal.SIGKILL)
        self._server.wait()
        (self._folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        self._server.send_signal(signal.SIGQUIT)
        self._server.wait(30)

    def _psql(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def _run(self, argv: list[str]) -> None:
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, cwd="/", **self._owner())

    def _owner(self) -> dict[str, object]:
        if self._who is None:
            return {}
        return {"user": self._who.service_uid, "group": self._who.service_gid, "extra_groups": []}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="tracking-drill-", dir="/tmp"))
    made = Cluster(folder)
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(300)
def test_acknowledged_points_survive_the_death_of_the_database(cluster: Cluster, tmp_path: Path) -> None:
    with tracking_server(cluster.url, tmp_path / "home") as server:
        project = server.project("ada", "digits")
        headers = {"Authorization": "Bearer glpat-ada"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
            made = client.post("/api/2.0/mlflow/runs/create", json={"experiment_id": str(project.id)}).json()
            run_id = made["run"]["info"]["run_id"]
            acknowledged: list[int] = []
            stop = threading.Event()
            writer = threading.Thread(target=_write, args=(client, run_id, acknowledged, stop))
            writer.start()
            for _ in range(KILLS):
                _until_more(acknowledged, 20)
                cluster.kill()
                cluster.start()
            _until_more(acknowledged, 20)
            stop.set()
            writer.join(60)
        rows = server.query(
            "SELECT m.step FROM tracking_metric m JOIN tracking_run r ON r.id = m.run WHERE run_id = %s",
            run_id,
        )
    assert set(acknowledged) <= {step for (step,) in rows}
    assert len(acknowledged) >= KILLS * 20


def _write(client: httpx.Client, run_id: str, acknowledged: list[int], stop: threading.Event) -> None:
    """As MLflow's client: what is answered by 503 is sent again."""
    step = 0
    while not stop.is_set():
        point = {"key": "loss", "value": 1.0, "timestamp": 1000 + step, "step": step}
        answer = client.post(LOG_BATCH, json={"run_id": run_id, "metrics": [point]})
        assert answer.status_code in (200, 503), answer.text
        if answer.status_code == 200:
            acknowledged.append(step)
            step += 1


def _until_more(acknowledged: list[int], count: int) -> None:
    target, deadline = len(acknowledged) + count, time.monotonic() + 60
    while len(acknowledged) < target:
        assert time.monotonic() < deadline, "writing does not go on"
        time.sleep(0.01)
