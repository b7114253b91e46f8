"""The promises of runner and forge together, with real runners: killed, stopped, cut off, their clocks wrong.

Bounds that are minutes in service are seconds here (`CiLimits`), by the same clock: the database's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gitlab.v4.objects import Project, ProjectPipeline

from nautilus_forge.jobs.limits import CiLimits
from nautilus_forge.testing.runner import register
from nautilus_forge.testing.server import RunningForge
from nautilus_runner.files.removal import remove_tree
from nautilus_runner.testing.machines import Cable, DrilledRunner, network_namespace

pytestmark = [
    pytest.mark.drill,
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]
needs_network = pytest.mark.skipif(shutil.which("ip") is None, reason="needs iproute2")
Push = Callable[..., ProjectPipeline]

LINES = 120
COUNTER = f"for i in $(seq {LINES}); do echo line-$i-; sleep 0.05; done"
SHORT = CiLimits(lease_s=2.0, silence_s=4.0, silence_plain_s=4.0, upkeep_every_s=0.1)
PATIENT = CiLimits(silence_s=60.0, silence_plain_s=60.0, upkeep_every_s=0.1)


def ci(script: str, more: str = "") -> str:
    return f"job:\n  variables: {{GIT_STRATEGY: none}}\n  script:\n    - {script!r}\n{more}"


ONCE_MORE = "  retry: {max: 1, when: [no_updates_running]}\n"


@pytest.fixture
def runners(
    forge: RunningForge, admin: httpx.Client, project: Project
) -> Iterator[Callable[..., DrilledRunner]]:
    """Makes real runners of the project; `address` and `port`: how they reach the forge, else directly."""
    token = admin.post(f"/projects/{project.id}/runners/reset_registration_token").json()["token"]
    made: list[DrilledRunner] = []

    def make(
        port: int = 0, address: str = "127.0.0.1", namespace: str = "", clock_s: float = 0.0
    ) -> DrilledRunner:
        folder = Path(tempfile.mkdtemp(prefix="nautilus-drill-", dir="/tmp"))
        folder.chmod(0o711)
        runner = DrilledRunner(folder, namespace, clock_s)
        known = register(forge.url, token)
        runner.configure(f"http://{address}:{port or forge.url.rpartition(':')[2]}", token=known.token)
        made.append(runner)
        runner.start()
        return runner

    yield make
    for runner in made:
        if runner.process is not None and runner.process.poll() is None:
            runner.send(signal.SIGCONT)
            runner.send(signal.SIGQUIT)
            with contextlib.suppress(Exception):
                runner.process.wait(15)
            runner.process.kill()
            runner.process.wait()
        remove_tree(runner.data_dir)


def tries(project: Project, pipeline: ProjectPipeline) -> list[Any]:
    found = project.pipelines.get(pipeline.id).jobs.list(all=True, include_retried=True)
    return sorted(found, key=lambda job: job.id)


def log_of(project: Project, job_id: int) -> str:
    with contextlib.suppress(Exception):
        return bytes(project.jobs.get(job_id).trace()).decode()  # type: ignore[arg-type]
    return ""


def lines_of(log: str) -> list[int]:
    return [
        int(line.split("-")[1])
        for line in log.splitlines()
        if line.startswith("line-") and line.endswith("-")
    ]


def processes_of(runner: DrilledRunner, job_id: int) -> list[str]:
    """The wardens of a job of a runner's."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().decode(errors="replace").split("\0")
            if any(w.startswith(f"{runner.data_dir}/journal") and f"-{job_id}/" in w for w in words):
                found.append(" ".join(words))
    return found


@pytest.mark.parametrize("limits", [SHORT])
def test_a_claim_whose_runner_is_killed_at_once_is_offered_again(
    forge: RunningForge, project: Project, push: Push, runners: Callable[..., DrilledRunner], eventually: Any
) -> None:
    cable = Cable("127.0.0.1", int(forge.url.rpartition(":")[2]))
    first = runners(port=cable.port)
    killed_at: list[float] = []

    def kill(answer: bytes) -> None:
        if answer.startswith(b"HTTP/1.1 201") and not killed_at:
            cable.is_cut = True
            killed_at.append(time.monotonic())
            first.send(signal.SIGKILL)

    cable.on_answer = kill
    pipeline = push(ci("echo ran"))
    eventually(lambda: killed_at)
    runners()
    eventually(lambda: project.pipelines.get(pipeline.id).status == "success")
    assert time.monotonic() - killed_at[0] < SHORT.lease_s + 30
    [job] = tries(project, pipeline)
    assert log_of(project, job.id).count("\nran\n") == 1
    cable.close()


@pytest.mark.parametrize("limits", [SHORT])
def test_a_stopped_runner_whose_job_went_to_another_is_refused_and_ends_its_own(
    project: Project, push: Push, runners: Callable[..., DrilledRunner], eventually: Any
) -> None:
    first = runners()
    pipeline = push(ci("echo begun; for i in $(seq 24); do echo tick; sleep 0.5; done; echo end", ONCE_MORE))
    job = tries(project, pipeline)[0]
    eventually(lambda: "begun" in log_of(project, job.id))
    first.send(signal.SIGSTOP)
    stopped_at = time.monotonic()
    eventually(lambda: len(tries(project, pipeline)) == 2)
    assert time.monotonic() - stopped_at < SHORT.silence_s + 15, "a dead runner is noticed in its bound"
    runners()
    lost, again = tries(project, pipeline)
    assert (lost.status, lost.failure_reason) == ("failed", "no_updates_running")
    before = log_of(project, lost.id)
    eventually(lambda: "begun" in log_of(project, again.id))
    first.send(signal.SIGCONT)
    eventually(lambda: not processes_of(first, lost.id))
    eventually(lambda: project.pipelines.get(pipeline.id).status == "success")
    assert log_of(project, lost.id) == before, "nothing of the stopped runner's was taken"
    assert log_of(project, again.id).count("begun\n") == 1


@needs_network
@pytest.mark.parametrize("limits", [PATIENT])
def test_a_partition_costs_neither_the_job_nor_a_byte_of_its_log(
    forge: RunningForge, project: Project, push: Push, runners: Callable[..., DrilledRunner], eventually: Any
) -> None:
    with network_namespace(201) as machine:
        cable = Cable(machine.address, int(forge.url.rpartition(":")[2]))
        runner = runners(cable.port, machine.address, machine.name)
        pipeline = push(ci(COUNTER))
        job = tries(project, pipeline)[0]
        eventually(lambda: "line-10-" in log_of(project, job.id))
        machine.pull_cable()
        reached = max(lines_of(log_of(project, job.id)))
        with pytest.raises(AssertionError):  # longer than the rest of the job takes
            eventually(lambda: max(lines_of(log_of(project, job.id))) > reached + 10, 12)
        machine.plug_cable()
        eventually(lambda: project.pipelines.get(pipeline.id).status == "success")
        assert lines_of(log_of(project, job.id)) == list(range(1, LINES + 1))
        assert len(tries(project, pipeline)) == 1
        assert runner.process is not None and runner.process.poll() is None
        cable.close()


@needs_network
@pytest.mark.parametrize("limits", [SHORT])
def test_a_machine_that_is_cut_off_is_noticed_and_frees_what_it_held_once_it_is_back(
    forge: RunningForge, project: Project, push: Push, runners: Callable[..., DrilledRunner], eventually: Any
) -> None:
    with network_namespace(202) as machine:
        cable = Cable(machine.address, int(forge.url.rpartition(":")[2]))
        first = runners(cable.port, machine.address, machine.name)
        pipeline = push(ci("echo begun; while :; do echo tick; sleep 0.5; done", ONCE_MORE))
        job = tries(project, pipeline)[0]
        eventually(lambda: "begun" in log_of(project, job.id))
        machine.pull_cable()
        cut_at = time.monotonic()
        eventually(lambda: len(tries(project, pipeline)) == 2)
        assert time.monotonic() - cut_at < SHORT.silence_s + 15
        assert processes_of(first, job.id), "a machine that is cut off works on"
        machine.plug_cable()
        eventually(lambda: not processes_of(first, job.id))
        pipeline.cancel()
        cable.close()


@pytest.mark.parametrize("limits", [PATIENT])
@pytest.mark.parametrize("clock_s", [3600.0, -3600.0])
def test_a_runners_clock_may_be_an_hour_off(
    project: Project, push: Push, runners: Callable[..., DrilledRunner], eventually: Any, clock_s: float
) -> None:
    runner = runners(clock_s=clock_s)
    pipeline = push(ci("echo begun; sleep 3; echo end", "  timeout: 10 minutes\n"))
    job = tries(project, pipeline)[0]
    eventually(lambda: "begun" in log_of(project, job.id))
    runner.send(signal.SIGKILL)
    assert runner.process is not None
    runner.process.wait()
    runner.clock_s = -clock_s  # and it jumps while nobody looks
    runner.start()
    eventually(lambda: project.pipelines.get(pipeline.id).status == "success")
    ended = project.jobs.get(job.id)
    assert 2.5 < ended.duration < 20
    assert log_of(project, job.id).count("begun\n") == 1
