"""From a job that becomes available to its first line, to its end, and from its output to somebody's eye."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import gitlab
import httpx

from bench.figures import figure
from nautilus.testing.command_line import CommandLine, fresh_home

_FIRST_LINE_LIMIT_S = 0.3
_DOCKER_EXTRA_S = 0.15
_EYE_LIMIT_S = 1.0
_IMAGE = "nautilus-job"
_CI = "stamp:\n  variables: {GIT_DEPTH: '1'}\n  script:\n    - echo at $(date +%s.%N)\n"
_TICKS = 'for i in $(seq 1 40); do echo "tick $(date +%s.%N)"; sleep 0.1; done'


def figures(runs: int, home: Path) -> list[dict[str, Any]]:
    """Process executor always; Docker where a daemon answers and has the job image."""
    found = _figures_of("process", runs)
    if _has_docker():
        found += _figures_of("docker", runs)
    return found


def _figures_of(executor: str, runs: int) -> list[dict[str, Any]]:
    cli = CommandLine(fresh_home(), executor)
    try:
        assert cli.run("up").returncode == 0, cli.logs()
        bench = Bench(cli)
        bench.one_job()  # the first fills the runner's mirror
        first, last, bare = [], [], []
        for _ in range(runs):
            bare.append(_bare(executor))
            to_first, to_end = bench.one_job()
            first.append(to_first)
            last.append(to_end)
        eye = bench.trace_delays() if executor == "process" else []
    finally:
        cli.run("down")
        subprocess.run(["rm", "-rf", str(cli.home)], check=False)
    return _rows(executor, first, last, bare, eye)


def _rows(
    executor: str, first: list[float], last: list[float], bare: list[float], eye: list[float]
) -> list[dict[str, Any]]:
    yardstick = "bare docker run" if executor == "docker" else "bare process"
    limit = statistics.median(bare) + _DOCKER_EXTRA_S if executor == "docker" else _FIRST_LINE_LIMIT_S
    words = "≤ the yardstick + 0.15 s" if executor == "docker" else "≤ 0.3 s"
    rows = [
        figure(
            f"job available → first line ({executor})",
            "s",
            first,
            target=words,
            ok=statistics.median(first) <= limit,
            yardstick=yardstick,
            yardstick_values=bare,
        ),
        figure(
            f"job available → finished ({executor})",
            "s",
            last,
            target="shown",
            ok=True,
            yardstick=yardstick,
            yardstick_values=bare,
        ),
    ]
    if eye:
        ok = statistics.quantiles(eye, n=20)[-1] <= _EYE_LIMIT_S
        rows.append(figure("trace bytes → eye", "s", eye, target="p95 ≤ 1 s", ok=ok))
    return rows


class Bench:
    """One project with a one-line pipeline, on a running appliance."""

    def __init__(self, cli: CommandLine) -> None:
        self._token = cli.layout.secret("admin_token").read_text().strip()
        self._url = cli.plan.web_url
        client = gitlab.Gitlab(cli.plan.gitlab_url, private_token=self._token)
        self._project = client.projects.create({"name": "bench", "initialize_with_readme": True})
        self._project.commits.create(
            {
                "branch": "main",
                "commit_message": "CI [skip ci]",
                "actions": [{"action": "create", "file_path": ".gitlab-ci.yml", "content": _CI}],
            }
        )

    def one_job(self) -> tuple[float, float]:
        """(to the first line of the script, to the end) in seconds after the job was made."""
        pipeline = self._project.pipelines.create({"ref": "main"})
        job = self._wait(pipeline.id)
        available = datetime.fromisoformat(job.created_at).timestamp()
        ended = datetime.fromisoformat(job.finished_at).timestamp()
        lines = job.trace().decode().splitlines()
        stamp = next(line for line in lines if line.startswith("at "))
        return float(stamp.split()[1]) - available, ended - available

    def _wait(self, pipeline_id: int) -> Any:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            job = self._project.jobs.list(get_all=False)[0]
            if job.pipeline["id"] == pipeline_id and job.status in ("success", "failed"):
                assert job.status == "success", job.trace()
                return self._project.jobs.get(job.id)
            time.sleep(0.05)
        raise TimeoutError("the job did not end within 60 s")

    def trace_delays(self) -> list[float]:
        """Seconds from each line's printing to its arrival in an open event stream of its experiment."""
        api = httpx.Client(base_url=f"{self._url}/api/v1", headers={"PRIVATE-TOKEN": self._token}, timeout=60)
        made = api.post("/experiments", json={"project": self._project.id, "command": _TICKS})
        experiment = made.raise_for_status().json()["experiments"][0]["id"]
        delays: list[float] = []
        with api.stream("GET", f"/experiments/{experiment}/events") as stream:
            kind = ""
            for line in stream.iter_lines():
                now = time.time()
                if line.startswith("event:"):
                    kind = line.removeprefix("event:").strip()
                elif line.startswith("data:") and kind == "log":
                    text = json.loads(line.removeprefix("data:"))["text"]
                    stamps = [part.split()[1] for part in text.splitlines() if part.startswith("tick 1")]
                    delays += [now - float(stamp) for stamp in stamps]
                elif kind == "end":
                    break
        return delays


def _bare(executor: str) -> float:
    began = time.monotonic()
    argv = ["docker", "run", "--rm", _IMAGE, "date"] if executor == "docker" else ["bash", "-c", "date"]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def _has_docker() -> bool:
    try:
        done = subprocess.run(["docker", "image", "inspect", _IMAGE], capture_output=True)
    except FileNotFoundError:
        return False
    return done.returncode == 0
