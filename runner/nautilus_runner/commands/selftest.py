"""`selftest`: whether this machine can run jobs, and whether its GPUs work, by the executors that jobs use."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from nautilus_runner.commands.options import AsJson, Config
from nautilus_runner.settings import Settings, load_settings


def add(app: typer.Typer) -> None:
    app.command("selftest")(selftest)


def selftest(
    config: Config,
    gpu: Annotated[str, typer.Option("--gpu", help="Only this one, by UUID, and nothing else.")] = "",
    as_json: AsJson = False,
) -> None:
    """Try what jobs need: git, disk, servers, Docker, a job of each executor, each GPU. Nothing is pulled.

    Status 0: all well (or nothing to try it with, which is said); 1: something is not; 2: wrong configuration.
    """
    os.umask(0o077)
    settings = load_settings(config)
    found = asyncio.run(_run(settings, gpu))
    is_ok = all(one["is_ok"] for one in (*found["checks"], *found["gpus"]))
    if as_json:
        print(json.dumps({"is_ok": is_ok, **found}))
    else:
        for one in (*found["checks"], *found["gpus"]):
            name = one.get("name") or f"{one['uuid']} ({one['executor']})"
            word = "ok" if one["is_ok"] and one["is_tried"] else "not tried" if one["is_ok"] else "FAILED"
            print(f"{word:<10} {name}: {one['detail']}")
        if not found["gpus"]:
            print("no GPUs were found")
    sys.stdout.flush()
    os._exit(0 if is_ok else 1)  # not held up by a thread that waits for a daemon


async def _run(settings: Settings, wanted: str) -> dict[str, list[dict[str, Any]]]:
    from nautilus_runner.checks import check_machine
    from nautilus_runner.errors import RunnerError
    from nautilus_runner.executors.factory import Factory
    from nautilus_runner.executors.gpu_probe import find_all
    from nautilus_runner.gpus.limits import chosen
    from nautilus_runner.gpus.locks import HostLocks
    from nautilus_runner.gpus.selftest import Result, SelfTests
    from nautilus_runner.system_id import ensure_system_id
    from nautilus_runner.trials import Trials

    data_dir: Path = settings.data_dir
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    executors = Factory(data_dir, ensure_system_id(data_dir))
    host = next((r.docker.host for r in settings.runners if r.executor == "docker"), "")
    found = await asyncio.to_thread(find_all, host)
    gpus = [gpu for gpu in chosen(found, settings.gpus) if wanted in ("", gpu.uuid)]
    if wanted and not gpus:
        known = ", ".join(gpu.uuid for gpu in chosen(found, settings.gpus)) or "none"
        raise RunnerError(f"this runner has no GPU {wanted}; it has: {known}")
    checks = [] if wanted else await check_machine(settings, executors, Trials(executors, data_dir))
    locks = HostLocks(Path(settings.gpu_lock_dir) if settings.gpu_lock_dir else None)
    results: list[Result] = []
    tests = SelfTests(executors, data_dir)
    for gpu in gpus:
        if not locks.take(gpu.uuid):
            results.append(Result(gpu.uuid, "", True, "a job has it", 0.0, is_tried=False))
            continue
        results += await tests.test(settings, gpu)
        locks.drop([gpu.uuid])
    executors.close(lambda key: False)
    return {"checks": [one.as_json() for one in checks], "gpus": [one.as_json() for one in results]}
