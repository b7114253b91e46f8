"""Morpheo's contract on real data, by examples/morpheo as it is: detarget, train without a network, perf, predict.

One machine serves it, with the example's own configuration: learn and predict jobs come by their tags, each kind with
its own parallelism and time.
"""

from __future__ import annotations

import functools
import io
import json
import shutil
import subprocess
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nautilus_forge.ci.compiler import compile_pipeline
from nautilus_forge.ci.model import CompiledJob, Context
from nautilus_runner.config_file import runner_block
from nautilus_runner.settings import parse_settings
from nautilus_runner.testing.githost import Repository
from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.running import JOB_USER, RunningAgent
from nautilus_runner.testing.server import ProtocolServer, ServedJob

IMAGE = "nautilus-job"
EXAMPLE = Path(__file__).parents[3] / "examples/morpheo"
REGISTERED = {"learn": 1, "predict": 2, "problem": 0}
"""Names of the machine's registrations, as of tags, each with its `--limit`; the problem's own jobs have no tag."""


class LearningMachine:
    """A runner with the example's configuration, joined once for each kind of job as docs/how-to/morpheo.md says."""

    def __init__(self, server: ProtocolServer, runner: RunningAgent) -> None:
        self._server = server
        self._runner = runner

    async def start(self, executor: str, table: dict[str, Any], *, learn_timeout_s: int = 1200) -> None:
        text = (EXAMPLE / "config.toml").read_text()
        text = text.replace("timeout_s = 1200", f"timeout_s = {learn_timeout_s}")
        for name, limit in REGISTERED.items():
            token = token_of(name)
            self._server.runner_tokens.add(token)
            entry = {"name": name, "url": self._server.url, "token": token, "executor": executor}
            text += "\n" + runner_block(entry | {"limit": limit}, {executor: table})
        await self._runner.start_with(parse_settings(text, self._runner.data_dir))


def token_of(runner: str) -> str:
    return f"glrt-of-{runner}"


@pytest.fixture
def machine(server: ProtocolServer, runner: RunningAgent) -> LearningMachine:
    return LearningMachine(server, runner)


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
        [runner] = job.tags or ("problem",)
        self.done[name] = self._server.add_job(payload, runner=token_of(runner))
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


@functools.cache
def can_sandbox() -> bool:
    """Whether bubblewrap works here. Without it process jobs can't be cut off: the same steps run with the network."""
    program = shutil.which("bwrap")
    return (
        bool(program)
        and not subprocess.run([program, "--bind", "/", "/", "--unshare-all", "true"]).returncode
    )


@pytest.fixture
def folder_of_signs() -> Iterator[Path]:
    """Where jobs look for a file, in and out of a sandbox."""
    folder = Path(tempfile.mkdtemp(prefix="nautilus-signs-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def network_here() -> dict[str, str]:
    return {} if can_sandbox() else {"NAUTILUS_NETWORK": "full"}


def process_table(**more: Any) -> dict[str, Any]:
    sandbox = "require" if can_sandbox() else "off"
    return {"user": JOB_USER, "grace_s": 2.0, "sandbox": sandbox, **more}


async def test_the_contract_with_processes(
    server: ProtocolServer, machine: LearningMachine, repository: Repository
) -> None:
    is_apart = can_sandbox()
    await machine.start("process", process_table())
    await see_through(Pipeline(server, repository, network_here()), is_apart=is_apart)


@pytest.mark.docker
@pytest.mark.usefixtures("daemon")
async def test_the_contract_with_containers(
    server: ProtocolServer, machine: LearningMachine, repository: Repository
) -> None:
    await machine.start("docker", {"image": IMAGE, "pull_policy": ["never"], "grace_s": 2.0})
    await see_through(Pipeline(server, repository, {}))


class Kinds:
    """How many jobs of each kind ran at once, counted whenever the server hears from a runner.

    Exact: between the moment that a job is given and its end the runner confirms that it has it.
    """

    def __init__(self, server: ProtocolServer, jobs: list[ServedJob]) -> None:
        self._server = server
        self._jobs = jobs
        self.most: Counter[str] = Counter()

    def now(self, *statuses: str) -> Counter[str]:
        return Counter(job.runner for job in self._jobs if job.status in statuses)

    async def until(self, learn: int, predict: int, *statuses: str) -> None:
        """So many jobs of each kind have one of these statuses."""
        wanted = {token_of("learn"): learn, token_of("predict"): predict}

        def is_so() -> bool:
            running = self.now("running")
            self.most |= running
            return self.now(*statuses) == +Counter(wanted)

        await self._server.until(is_so, 120)


async def test_learn_and_predict_jobs_run_side_by_side_never_more_than_their_kinds_allow(
    server: ProtocolServer, machine: LearningMachine, repository: Repository, folder_of_signs: Path
) -> None:
    """Predicting does not wait for learning: while one job learns and others wait for their turn, all predict."""
    await machine.start("process", process_table(readable=[str(folder_of_signs)]))
    pipeline = Pipeline(server, repository, network_here())
    await pipeline.run("detarget")
    await pipeline.run("train-quick")
    learning, predicting = (
        [f"until test -e {folder_of_signs}/{kind}; do sleep 0.05; done", *pipeline.jobs[name].script]
        for kind, name in (("learn", "train-quick"), ("predict", "predict-quick"))
    )
    trained = pipeline.done["train-quick"]
    jobs = [pipeline.offer("train-quick", learning) for _ in range(3)]
    pipeline.done["train-quick"] = trained
    jobs += [pipeline.offer("predict-quick", predicting) for _ in range(3)]
    kinds = Kinds(server, jobs)
    await kinds.until(1, 2, "running")
    (folder_of_signs / "predict").touch()
    await kinds.until(0, 3, "success", "failed")
    assert kinds.now("running", "pending") == {token_of("learn"): 3}
    (folder_of_signs / "learn").touch()
    await kinds.until(3, 3, "success", "failed")
    assert {job.status for job in jobs} == {"success"}, [job.log for job in jobs if job.status == "failed"]
    assert kinds.most == {token_of("learn"): 1, token_of("predict"): 2}


async def test_a_learn_job_ends_when_the_time_of_its_kind_is_over(
    server: ProtocolServer, machine: LearningMachine, repository: Repository
) -> None:
    await machine.start("process", process_table(), learn_timeout_s=1)
    pipeline = Pipeline(server, repository, network_here())
    await pipeline.run("detarget")
    job = await pipeline.finished(pipeline.offer("train-rank-0", ["sleep 601"]))
    assert (job.status, job.finals[-1]["failure_reason"]) == ("failed", "job_execution_timeout")
    assert "scripts of learn jobs may take 1 seconds on this runner" in job.log
