"""Boot and idle memory, against bare PostgreSQL on the same machine in the same run."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.figures import figure
from nautilus.appliance import accounts, postgres, status
from nautilus.appliance.processes import family
from nautilus.testing.command_line import CommandLine, fresh_home

_SETTLE_S = 8.0
_BUDGET_MIB = 300.0
_WARM_LIMIT_S = 3.0
_COLD_RATIO = 3.0


def figures(runs: int, home: Path) -> list[dict[str, Any]]:
    """Cold and warm boot to ready (seconds), and what each service holds when idle (PSS, MiB)."""
    cold, warm, bare_cold, bare_warm = [], [], [], []
    memory: dict[str, list[float]] = {}
    for _ in range(runs):
        created, started = _bare_postgres()
        bare_cold.append(created)
        bare_warm.append(started)
        cli = CommandLine(fresh_home())
        try:
            cold.append(_boot(cli))
            _stop(cli)
            warm.append(_boot(cli))
            time.sleep(_SETTLE_S)
            for service in status.read_status(cli.layout).services:
                if service.pss_mib is not None and service.name != "provision":
                    memory.setdefault(service.name, []).append(service.pss_mib)
        finally:
            _stop(cli)
            subprocess.run(["rm", "-rf", str(cli.home)], check=False)
    return [
        *_boot_figures(cold, warm, bare_cold, bare_warm),
        *_memory_figures(memory),
    ]


def _boot_figures(
    cold: list[float], warm: list[float], bare_cold: list[float], bare_warm: list[float]
) -> list[dict[str, Any]]:
    ratio = statistics.median(cold) / statistics.median(bare_cold)
    return [
        figure(
            "cold boot to ready",
            "s",
            cold,
            target=f"≤ {_COLD_RATIO:.0f}× the yardstick",
            ok=ratio <= _COLD_RATIO,
            yardstick="bare initdb + pg_ctl start + createdb",
            yardstick_values=bare_cold,
        ),
        figure(
            "warm boot to ready",
            "s",
            warm,
            target=f"≤ {_WARM_LIMIT_S:.0f} s",
            ok=statistics.median(warm) <= _WARM_LIMIT_S,
            yardstick="bare pg_ctl start",
            yardstick_values=bare_warm,
        ),
    ]


def _memory_figures(memory: dict[str, list[float]]) -> list[dict[str, Any]]:
    totals = [sum(values) for values in zip(*memory.values(), strict=True)]
    rows = [
        figure(f"idle memory of {name}", "MiB PSS", values, target="part of the budget", ok=True)
        for name, values in memory.items()
    ]
    total = figure(
        "idle memory of all services",
        "MiB PSS",
        totals,
        target=f"≤ {_BUDGET_MIB:.0f} MiB",
        ok=statistics.median(totals) <= _BUDGET_MIB,
    )
    return [*rows, total]


def _boot(cli: CommandLine) -> float:
    """Seconds from starting the supervisor to the gateway's own word that all is ready."""
    import sys

    began = time.monotonic()
    subprocess.Popen(
        [sys.executable, "-m", "nautilus.appliance.boot"],
        env=cli.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = began + 120
    while not status.is_ready(cli.layout):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not ready: {status.waiting_for(cli.layout)}\n{cli.logs()}")
        time.sleep(0.05)
    return time.monotonic() - began


def _stop(cli: CommandLine) -> None:
    cli.run("down")
    assert not family(cli.home)


def _bare_postgres() -> tuple[float, float]:
    """(initdb + start + createdb, start alone) in seconds, with PostgreSQL's own defaults."""
    who = accounts.ensure_accounts()
    binaries = postgres.binaries_for(Path("/nonexistent"), postgres.installed_binaries())
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="bare-pg-") as folder:
        Path(folder).chmod(0o755)
        if who.job:
            import shutil

            shutil.chown(folder, who.service)
        data, log = f"{folder}/data", f"{folder}/log"
        start = ["pg_ctl", "-D", data, "-l", log, "-w", "-o", f"-c listen_addresses= -k {folder}", "start"]
        stop = ["pg_ctl", "-D", data, "-m", "fast", "-w", "stop"]
        began = time.monotonic()
        _as_service(who, binaries, ["initdb", "-D", data, "-A", "trust"])
        _as_service(who, binaries, start)
        _as_service(who, binaries, ["createdb", "-h", folder, "bench"])
        created = time.monotonic() - began
        _as_service(who, binaries, stop)
        began = time.monotonic()
        _as_service(who, binaries, start)
        started = time.monotonic() - began
        _as_service(who, binaries, stop)
    return created, started


def _as_service(who: accounts.Accounts, binaries: postgres.Binaries, argv: list[str]) -> None:
    subprocess.run(
        [binaries.program(argv[0]), *argv[1:]],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        **who.service_process(),
    )
