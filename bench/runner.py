"""What a job costs beside its own work: from the server's answer to the first line, from the end to the result."""

from __future__ import annotations

import asyncio
import hashlib
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.figures import figure
from bench.load import cpu_s, pss_mib
from bench.runner_rig import IMAGE, STOCK, Rig, given_at, running, stamp, stamps
from nautilus_runner.executors.containers import LABEL_RUNNER
from nautilus_runner.testing.payloads import job_payload

_MIB = 1 << 20
_PROCESS_FIRST_LINE_S = 0.1
_DOCKER_EXTRA_S = 0.08
_KNOWN_S = 0.05
_JOBS_PER_MINUTE = 600
_IDLE_MIB = 50
_LOG_MB_PER_S = 20
_GONE_S = 1.0
_BURST = 100
_COUNT = "seq 1 22000000"
_SETTLE_S = 3.0


def figures(runs: int, home: Path) -> list[dict[str, Any]]:
    """The process executor always, a stock gitlab-runner where one is, Docker where a daemon has the image."""
    return asyncio.run(_figures(max(runs, 5)))


async def _figures(runs: int) -> list[dict[str, Any]]:
    stock = await _stock(runs) if STOCK else {}
    async with running("process", concurrent=4) as rig:
        found = [_idle(await _idle_mib(rig), stock)]
        first, known = await _latencies(rig, runs)
        found += _latency_rows("process", first, known, [], stock)
        found += [await _burst(rig, stock)]
        found += [await _log_speed(rig)]
    if await asyncio.to_thread(_has_docker):
        async with running("docker", concurrent=2) as rig:
            bare: list[tuple[float, float]] = []
            first, known = await _latencies(rig, runs, lambda: bare.append(_bare_docker()))
            found += _latency_rows("docker", first, known, bare, {})
            found += [await _kill(rig, runs)]
    return found


async def _stock(runs: int) -> dict[str, list[float]]:
    """The same measurements of a stock gitlab-runner's shell executor."""
    async with running("stock", concurrent=4) as rig:
        idle = await _idle_mib(rig)
        first, known = await _latencies(rig, runs)
        per_minute, _ = await _jobs_per_minute(rig)
    return {"idle": idle, "first": first, "known": known, "per_minute": [per_minute]}


# ---- one job at a time


async def _latencies(
    rig: Rig, runs: int, before_each: Callable[[], None] = lambda: None
) -> tuple[list[float], list[float]]:
    """Seconds from the server's answer to the first line of the script, and from its last line to the result.

    `before_each` measures the yardstick, in turn with ours: a busy machine is busy for both.
    """
    await rig.run(["true"])  # what is imported once, is
    first, known = [], []
    for _ in range(runs):
        await asyncio.to_thread(before_each)
        job = await rig.run([stamp("first"), stamp("last")])
        ended_at = time.time()
        found = stamps(job)
        first.append(found["first"] - given_at(job))
        known.append(ended_at - found["last"])
    return first, known


def _latency_rows(
    executor: str,
    first: list[float],
    known: list[float],
    bare: list[tuple[float, float]],
    stock: dict[str, list[float]],
) -> list[dict[str, Any]]:
    """`bare`: of Docker's API, create + start, and last line → ended."""
    yardstick = "gitlab-runner (shell)" if stock else ""
    starts, ends = [start for start, _ in bare], [end for _, end in bare]
    first_limit = statistics.median(starts) + _DOCKER_EXTRA_S if bare else _PROCESS_FIRST_LINE_S
    known_limit = _KNOWN_S + (statistics.median(ends) if bare else 0.0)
    return [
        figure(
            f"job given → first line ({executor})",
            "s",
            first,
            target=f"≤ the yardstick + {_ms(_DOCKER_EXTRA_S)}" if bare else f"≤ {_ms(first_limit)}",
            ok=statistics.median(first) <= first_limit,
            yardstick="Docker's API: create + start" if bare else yardstick,
            yardstick_values=starts or stock.get("first", []),
        ),
        figure(
            f"last line → the server knows the result ({executor})",
            "s",
            known,
            target=f"≤ the yardstick + {_ms(_KNOWN_S)}" if bare else f"≤ {_ms(known_limit)}",
            ok=statistics.median(known) <= known_limit,
            yardstick="Docker's API: last line → wait returns" if bare else yardstick,
            yardstick_values=ends or stock.get("known", []),
        ),
    ]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


# ---- many jobs, long logs, idle


async def _burst(rig: Rig, stock: dict[str, list[float]]) -> dict[str, Any]:
    per_minute, cpu_ms = await _jobs_per_minute(rig)
    return figure(
        f"trivial process jobs per minute, 4 at a time ({cpu_ms:.0f} ms of the runner's CPU each)",
        "jobs/min",
        [per_minute],
        target=f"≥ {_JOBS_PER_MINUTE}",
        ok=per_minute >= _JOBS_PER_MINUTE,
        yardstick="gitlab-runner (shell)" if stock else "",
        yardstick_values=stock.get("per_minute", []),
    )


async def _jobs_per_minute(rig: Rig) -> tuple[float, float]:
    """Jobs per minute, and milliseconds of the runner's own CPU for each."""
    began, cpu = time.monotonic(), cpu_s(rig.pid)
    jobs = [rig.server.add_job(job_payload(["true"])) for _ in range(_BURST)]
    await rig.server.until(lambda: all(job.is_over for job in jobs), 300)
    if any(job.status != "success" for job in jobs):
        raise RuntimeError("a trivial job failed")
    took_s = time.monotonic() - began
    return _BURST / took_s * 60, (cpu_s(rig.pid) - cpu) / _BURST * 1000


async def _log_speed(rig: Rig) -> dict[str, Any]:
    """MB/s of a job's output from its first byte to the result, and whether each byte came."""
    size, digest = await asyncio.to_thread(_numbers)
    job = await rig.run([stamp("first"), _COUNT, "echo; echo the end"], timeout_s=300)
    took_s = time.time() - stamps(job)["first"]
    begin = job.trace.index(b"\n", job.trace.index(b"\nstamp first") + 1) + 1
    begin = job.trace.index(b"\n", begin) + 1  # past the command, as it is shown
    got = hashlib.sha256(job.trace[begin : begin + size]).hexdigest()
    speed = size / 1e6 / took_s
    return figure(
        f"log of {size / 1e6:.0f} MB, every byte ({'sha256 agrees' if got == digest else 'sha256 DIFFERS'})",
        "MB/s",
        [speed],
        target=f"≥ {_LOG_MB_PER_S}, none lost",
        ok=speed >= _LOG_MB_PER_S and got == digest,
    )


def _numbers() -> tuple[int, str]:
    """How many bytes the command prints, and their SHA-256."""
    digest, size = hashlib.sha256(), 0
    with subprocess.Popen(_COUNT.split(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while part := process.stdout.read(_MIB):
            digest.update(part)
            size += len(part)
    return size, digest.hexdigest()


async def _idle_mib(rig: Rig) -> list[float]:
    await rig.run(["true"])
    await asyncio.sleep(_SETTLE_S)
    return [pss_mib(rig.pid)]


def _idle(values: list[float], stock: dict[str, list[float]]) -> dict[str, Any]:
    return figure(
        "idle memory of the runner, after a job",
        "MiB PSS",
        values,
        target=f"≤ {_IDLE_MIB}",
        ok=max(values) <= _IDLE_MIB,
        yardstick="gitlab-runner" if stock else "",
        yardstick_values=stock.get("idle", []),
    )


# ---- Docker


async def _kill(rig: Rig, runs: int) -> dict[str, Any]:
    """Seconds from the server's word to the container's disappearance."""
    gone = []
    for _ in range(runs):
        job = rig.server.add_job(job_payload(["echo up", "sleep 600"]))
        await rig.server.until(lambda job=job: "up\n" in job.log, 30)  # type: ignore[misc]
        began = time.monotonic()
        rig.server.cancel(job, force=True)
        async with asyncio.timeout(30):
            while await asyncio.to_thread(_containers, rig):
                await asyncio.sleep(0.01)
        gone.append(time.monotonic() - began)
    return figure(
        "killed → its container is gone",
        "s",
        gone,
        target=f"≤ {_GONE_S:g} s",
        ok=statistics.median(gone) <= _GONE_S,
    )


def _containers(rig: Rig) -> int:
    """How many there are of this runner's."""
    import docker

    label = f"{LABEL_RUNNER}={(rig.home / 'system_id').read_text().strip()}"
    api = docker.APIClient()
    try:
        return len(api.containers(all=True, filters={"label": label}))
    finally:
        api.close()


def _bare_docker() -> tuple[float, float]:
    """Seconds of Docker's API for a container of the same image: created and started; its last line → it has ended."""
    import docker

    api = docker.APIClient()
    try:
        began = time.monotonic()
        command = ["bash", "-c", "sleep 0.2; " + stamp("last")]
        made = api.create_container_from_config({"Image": IMAGE, "Cmd": command, "HostConfig": {}})
        api.start(made["Id"])
        took_s = time.monotonic() - began
        api.wait(made["Id"])
        ended_at = time.time()
        said = api.logs(made["Id"]).decode().split()[-1]
        api.remove_container(made["Id"], force=True)
    finally:
        api.close()
    return took_s, ended_at - float(said)


def _has_docker() -> bool:
    import docker

    try:
        api = docker.APIClient()
        api.inspect_image(IMAGE)
        api.close()
    except docker.errors.DockerException:
        return False
    return True
