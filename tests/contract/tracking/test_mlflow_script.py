"""A training script as users have it, started as a job starts it: by environment alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from nautilus.testing.tracking_server import SubmittedJob, TrackingServer

SCRIPT = """
import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag

mlflow.set_experiment("my favourite experiment")
with mlflow.start_run(description="about digits") as run:
    mlflow.log_param("depth", 3)
    mlflow.log_params({"seed": 7, "kind": "tree"})
    for step in range(20):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.log_metrics({"accuracy": step / 20, "f1": step / 40}, step=step)
    for step in range(30):
        mlflow.log_metric("later", step, step=step, synchronous=False)
    mlflow.flush_async_logging()
    mlflow.set_tag("owner", "ada")
    mlflow.set_tags({"team": "vision", "stage": "trial"})
    dataset = Dataset("digits", "0123abcd", "http", "http://data.test/digits.csv")
    read = DatasetInput(dataset, [InputTag("mlflow.data.context", "training"), InputTag("split", "a")])
    mlflow.MlflowClient().log_inputs(run.info.run_id, datasets=[read])
    open("notes.txt", "w").write("all of it")
    mlflow.log_artifact("notes.txt")
    mlflow.log_artifacts("folder", artifact_path="results")
    mlflow.log_dict({"a": 1}, "config/settings.json")
    mlflow.log_text("héllo", "config/words.txt")
    for depth in (1, 2):
        with mlflow.start_run(nested=True, run_name=f"depth-{depth}"):
            mlflow.log_param("depth", depth)
with mlflow.start_run(run_name="afterwards"):
    mlflow.log_metric("extra", 1.0)
print("RUN", run.info.run_id)
"""


def test_an_unchanged_script_logs_into_the_run_of_its_experiment(
    server: TrackingServer, job: SubmittedJob, tmp_path: Path
) -> None:
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "a.bin").write_bytes(bytes(range(256)) * 100)
    (tmp_path / "folder" / "deep" / "b.txt").write_text("b")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
        | {
            "MLFLOW_TRACKING_URI": server.url,
            "MLFLOW_TRACKING_TOKEN": job.token,
            "MLFLOW_RUN_ID": job.run_id,
            "MLFLOW_EXPERIMENT_ID": str(job.project_id),
        },
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert f"RUN {job.run_id}" in done.stdout

    def of_run(statement: str) -> list[tuple[object, ...]]:
        return server.query(f"SELECT {statement} WHERE r.run_id = %s", job.run_id)

    assert dict(of_run("p.key, p.value FROM tracking_run r JOIN tracking_param p ON p.run = r.id")) == {
        "lr": "0.1",
        "depth": "3",
        "seed": "7",
        "kind": "tree",
    }
    points = of_run(
        "k.name, m.step FROM tracking_run r JOIN tracking_metric m ON m.run = r.id"
        " JOIN tracking_metric_key k ON k.id = m.key"
    )
    assert Counter(name for name, _ in points) == {"loss": 20, "accuracy": 20, "f1": 20, "later": 30}
    tags = dict(of_run("t.key, t.value FROM tracking_run r JOIN tracking_tag t ON t.run = r.id"))
    assert {"owner": "ada", "team": "vision", "mlflow.note.content": "about digits"}.items() <= tags.items()
    assert of_run("r.status FROM tracking_run r") == [(3,)]
    others = server.query("SELECT name FROM tracking_run WHERE made_by_run IS NOT NULL ORDER BY 1")
    assert others == [("afterwards",), ("depth-1",), ("depth-2",)]
    root = server.home / "management" / "artifacts" / str(job.project_id) / job.run_id / "artifacts"
    assert sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()) == [
        "config/settings.json",
        "config/words.txt",
        "notes.txt",
        "results/a.bin",
        "results/deep/b.txt",
    ]
    assert (root / "results" / "a.bin").read_bytes() == bytes(range(256)) * 100
    datasets = of_run(
        "d.name, i.tags ->> 'mlflow.data.context', i.tags ->> 'split' FROM tracking_run r"
        " JOIN tracking_input i ON i.run = r.id JOIN tracking_dataset d ON d.id = i.dataset"
    )
    assert datasets == [("digits", "training", "a")]
