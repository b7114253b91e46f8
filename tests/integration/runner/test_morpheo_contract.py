"""Morpheo's contract on real data, by examples/morpheo as it is: detarget, train without a network, perf, predict."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from nautilus_forge.ci.compiler import compile_pipeline
from nautilus_forge.ci.model import CompiledJob, Context
from nautilus_runner.settings import parse_settings
from nautilus_runner.testing.githost import Repository
from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.running import JOB_USER, RunningAgent
from nautilus_runner.testing.server import ProtocolServer, ServedJob

IMAGE = "nautilus-job"
EXAMPLE = Path(__file__).parents[3] / "examples/morpheo"


class Pipeline:
    """The example's pipeline, its jobs given to a runner one after the other as their needs say."""

    def __init__(self, server: ProtocolServer, repository: Repository, replaced: dict[str, str]) -> None:
        files = {str(p.relative_to(EXAMPLE)): p.read_bytes() for p in EXAMPLE.rglob("*") if p.is_file()}
        self._sha = repository.commit({n: c for n, c in files.items() if "__pycache__" not in n})
        repository.point("refs/pipelines/7", self._sha)
        text = (EXAMPLE / ".gitlab-ci.yml").read_text()
        compiled = compile_pipeline(text, Context(ref="main"))
        self.jobs: dict[str, CompiledJob] = {job.name: job for job in compiled.jobs}
        self._server = server
        self._replaced = replaced
        self.done: dict[str, ServedJob] = {}

    def offer(self, name: str, script: list[str] | None = None) -> ServedJob:
        job = self.jobs[name]
        values = {v.key: v.value for v in job.variables} | self._replaced
        needs = [self._need(need.job) for need in job.needs or ()]
        archive = {"when": "on_success", "artifact_type": "archive", "artifact_format": "zip"}
        payload = job_payload(
            script or [*job.script],
            url=self._server.url,
            sha=self._sha,
            variables=[variable(key, value) for key, value in values.items()],
            dependencies=needs,
            artifacts=[{"paths": list(job.artifacts.paths), **archive}] if job.artifacts else None,
        )
        payload["job_info"]["name"] = name
        self.done[name] = self._server.add_job(payload)
        return self.done[name]

    async def run(self, name: str) -> zipfile.ZipFile:
        """The job's artifacts."""
        job = await self._server.finished(self.offer(name), 60)
        assert job.status == "success", f"{name}: {job.log}"
        job.served_artifacts = job.uploads[-1].content
        return zipfile.ZipFile(io.BytesIO(job.served_artifacts))

    async def finished(self, job: ServedJob) -> ServedJob:
        return await self._server.finished(job, 60)

    def reach_the_server(self) -> str:
        """A command that tells whether a job gets to the server that gave it."""
        connect = f"import socket; socket.create_connection(('{self._server.host}', {self._server.port}), 2)"
        return f'python3 -c "{connect}" 2>/dev/null || echo the server is "out of" reach'

    def _need(self, name: str) -> dict[str, object]:
        other = self.done[name]
        file = {"filename": "artifacts.zip", "size": len(other.served_artifacts)}
        return {"id": other.id, "name": name, "token": other.token, "artifacts_file": file}


async def see_through(pipeline: Pipeline, *, is_apart: bool = True) -> None:
    """Every step, and what the contract says of it."""
    given = (await pipeline.run("detarget")).namelist()
    assert "submission_data/test/000.csv" in given and "submission_data/train/000.csv" in given
    assert not [name for name in given if name.startswith(("hidden_data", "data", "problem"))]
    if is_apart:
        spying = pipeline.offer("train-rank-0", ["ls", pipeline.reach_the_server()])
        await pipeline.finished(spying)
        assert "the server is out of reach" in spying.log and spying.status == "success", spying.log
    first = await pipeline.run("train-rank-0")
    assert "submission_data/test/pred/000.csv" in first.namelist()
    assert {len(line.split(b",")) for line in first.read("submission_data/test/000.csv").split()} == {64}
    before = json.loads((await pipeline.run("perf-rank-0")).read("hidden_data/perf/performance.json"))
    await pipeline.run("train-rank-1")
    after = json.loads((await pipeline.run("perf-rank-1")).read("hidden_data/perf/performance.json"))
    assert set(before) == {"perf", "train_perf", "test_perf"}
    assert 0.8 < before["perf"] < after["perf"], "the second rank starts where the first ended"
    predicted = (await pipeline.run("predict")).read("submission_data/test/pred/000.csv").split()
    assert len(predicted) == 100 and set(predicted) <= {b"%d" % digit for digit in range(10)}


def can_sandbox() -> bool:
    """Whether bubblewrap works here. Without it process jobs can't be cut off: the same steps run with the network."""
    program = shutil.which("bwrap")
    return (
        bool(program)
        and not subprocess.run([program, "--bind", "/", "/", "--unshare-all", "true"]).returncode
    )


async def test_the_contract_with_processes(
    server: ProtocolServer, runner: RunningAgent, repository: Repository
) -> None:
    is_apart = can_sandbox()
    sandbox = "require" if is_apart else "off"
    await runner.start(server.url, process={"user": JOB_USER, "grace_s": 2.0, "sandbox": sandbox})
    network = {} if is_apart else {"NAUTILUS_NETWORK": "full"}
    await see_through(Pipeline(server, repository, network), is_apart=is_apart)


@pytest.mark.docker
async def test_the_contract_with_containers(
    server: ProtocolServer, runner: RunningAgent, repository: Repository
) -> None:
    have_image(IMAGE)
    docker = {"image": IMAGE, "pull_policy": ["never"], "grace_s": 2.0}
    await runner.start(server.url, executor="docker", docker=docker, process={})
    await see_through(Pipeline(server, repository, {}))


def have_image(name: str) -> None:
    """Skips where the daemon or the image is missing."""
    import docker

    try:
        api = docker.APIClient(version="auto", timeout=60)
        api.inspect_image(name)
        api.close()
    except docker.errors.DockerException as error:
        pytest.skip(f"the image {name} is not to be had: {error}")


def test_learn_and_predict_have_their_own_parallelism_and_timeouts(tmp_path: Path) -> None:
    kinds = {
        kind.name: kind for kind in parse_settings((EXAMPLE / "config.toml").read_text(), tmp_path).kinds
    }
    assert (kinds["learn"].limit, kinds["learn"].timeout_s) == (1, 1200)
    assert (kinds["predict"].limit, kinds["predict"].timeout_s) == (2, 300)
    assert kinds["learn"].jobs == ("train-*",) and kinds["predict"].jobs == ("predict*",)
