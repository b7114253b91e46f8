"""What a job costs beside its own work: from the server's answer to the first line, from the end to the result."""

from __future__ import annotations

import asyncio
import hashlib
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench import runner_docker
from bench.figures import figure
from bench.load import cpu_s, pss_mib
from bench.runner_rig import IMAGE, KNOWN_S, Rig, in_ms, latency, running, stamp, stamps
from nautilus_runner.testing.payloads import job_payload
from nautilus_runner.testing.stock import NoStock, find_program

_MIB = 1 << 20
_PROCESS_FIRST_LINE_S = 0.1
_JOBS_PER_MINUTE = 600
_IDLE_MIB = 50
_LOG_MB_PER_S = 20
_BURST = 100
_COUNT = "seq 1 22000000"
_SETTLE_S = 3.0


def figures(runs: int, home: Path) -> list[dict[str, Any]]:
    """The process executor always, Docker where a daemon has the image; a stock gitlab-runner where there is one, else
    it is told that there is none."""
    return asyncio.run(_figures(max(runs, 5)))


async def _figures(runs: int) -> list[dict[str, Any]]:
    stock = await _stock(runs)
    async with running("process", concurrent=4) as rig:
        found = [_idle(await _idle_mib(rig), stock)]
        first, known = await _latencies(rig, runs)
        found += _process_rows(first, known, stock)
        found += [await _burst(rig, stock)]
        found += [await _log_speed(rig)]
    if await asyncio.to_thread(runner_docker.has_image):
        found += await runner_docker.measured(runs)
    else:
        print(f"no Docker daemon with the image {IMAGE}: nothing of containers is measured", file=sys.stderr)
    return found


async def _stock(runs: int) -> dict[str, list[float]]:
    """The same measurements of a stock gitlab-runner's shell executor; nothing where there is none."""
    try:
        find_program()
    except NoStock as missing:
        print(f"no yardstick gitlab-runner (shell): {missing}", file=sys.stderr)
        return {}
    async with running("stock process", concurrent=4) as rig:
        idle = await _idle_mib(rig)
        first, known = await _latencies(rig, runs)
        per_minute, _ = await _jobs_per_minute(rig)
    return {"idle": idle, "first": first, "known": known, "per_minute": [per_minute]}


# ---- one job at a time


async def _latencies(rig: Rig, runs: int) -> tuple[list[float], list[float]]:
    """`latency` so many times: all first ones, all second ones."""
    await rig.run(["true"])  # what is imported once, is
    found = [await latency(rig) for _ in range(runs)]
    return [first for first, _ in found], [known for _, known in found]


def _process_rows(
    first: list[float], known: list[float], stock: dict[str, list[float]]
) -> list[dict[str, Any]]:
    yardstick = "gitlab-runner (shell)" if stock else ""
    return [
        figure(
            "job given → first line (process)",
            "s",
            first,
            target=f"≤ {in_ms(_PROCESS_FIRST_LINE_S)}",
            ok=statistics.median(first) <= _PROCESS_FIRST_LINE_S,
            yardstick=yardstick,
            yardstick_values=stock.get("first", []),
        ),
        figure(
            "last line → the server knows the result (process)",
            "s",
            known,
            target=f"≤ {in_ms(KNOWN_S)}",
            ok=statistics.median(known) <= KNOWN_S,
            yardstick=yardstick,
            yardstick_values=stock.get("known", []),
        ),
    ]


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
