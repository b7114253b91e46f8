"""Whether this machine can run jobs at all: what `nautilus-runner selftest` looks at besides GPUs."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from nautilus_runner.disk import MIB, free_bytes, mib
from nautilus_runner.errors import RunnerError, UnavailableError
from nautilus_runner.executors.factory import Factory
from nautilus_runner.settings import RunnerSettings, Settings
from nautilus_runner.transport import Transport
from nautilus_runner.trials import NothingToTry, Trials, ways

_OLDEST_GIT = (2, 25)
_MARK = "NAUTILUS-SELFTEST"


@dataclass(frozen=True, slots=True)
class Check:
    """`is_tried` False: there was nothing to try it with, which is no failure."""

    name: str
    is_ok: bool
    detail: str
    duration_s: float
    is_tried: bool = True

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


async def check_machine(settings: Settings, executors: Factory, trials: Trials) -> list[Check]:
    """All of them, one after the other; each ends in bounded time."""
    looks: list[tuple[str, Callable[[], Awaitable[str]]]] = [
        ("git", partial(asyncio.to_thread, _git)),
        ("disk", partial(asyncio.to_thread, _disk, settings)),
    ]
    urls = {url: r.tls_ca_file for r in settings.runners for url in (r.url, r.clone_url) if url}
    looks += [(f"server {url}", partial(_answers, url, ca_file)) for url, ca_file in urls.items()]
    for runner in ways(settings):
        if runner.executor == "docker":
            name = f"docker {runner.docker.host}".rstrip()
            looks.append((name, partial(asyncio.to_thread, _daemon, executors, runner)))
        looks.append((f"{runner.executor} job", partial(_job, trials, runner, settings)))
    return [await _checked(name, look) for name, look in looks]


async def _checked(name: str, look: Callable[[], Awaitable[str]]) -> Check:
    begun = time.monotonic()
    is_ok, is_tried = True, True
    try:
        detail = await look()
    except NothingToTry as error:
        is_tried, detail = False, str(error)
    except (RunnerError, OSError) as error:
        is_ok, detail = False, str(error)
    return Check(name, is_ok, detail, round(time.monotonic() - begun, 3), is_tried)


def _git() -> str:
    """Raises RunnerError."""
    program = shutil.which("git")
    if program is None:
        raise RunnerError("git is not installed; sources can't be fetched")
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20).stdout.strip()
    found = re.search(r"(\d+)\.(\d+)", said)
    if found is None or (int(found[1]), int(found[2])) < _OLDEST_GIT:
        raise RunnerError(
            f"{said or 'git'} is too old; {'.'.join(map(str, _OLDEST_GIT))} is the oldest that works"
        )
    return said


def _disk(settings: Settings) -> str:
    """Raises RunnerError, OSError."""
    free, reserve = free_bytes(settings.data_dir), settings.disk.reserve_mib * MIB
    if free < reserve:
        raise RunnerError(
            f"{mib(free)} are free at {settings.data_dir}, less than the reserve of {mib(reserve)}"
        )
    return f"{mib(free)} are free at {settings.data_dir}"


async def _answers(url: str, ca_file: str) -> str:
    """Any answer of HTTP will do. Raises RunnerError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise NothingToTry("reached by SSH, by jobs alone")
    transport = Transport(f"{parts.scheme}://{parts.netloc}", ca_file)
    try:
        answer = await transport.request("GET", parts.path or "/", read_timeout_s=10.0)
    finally:
        await transport.close()
    if answer.status >= 500:
        raise UnavailableError(f"it answers {answer.status}", answer.status)
    return f"answers (status {answer.status})"


def _daemon(executors: Factory, runner: RunnerSettings) -> str:
    """Raises SystemFailure, RunnerError."""
    import docker

    try:
        api = executors.daemon(runner.docker.host)[0]
        version, info = api.version(), api.info()
    except docker.errors.DockerException as error:
        raise RunnerError(str(error)) from error
    wanted = runner.docker.runtime
    if wanted and wanted not in (info.get("Runtimes") or {}):
        raise RunnerError(f"Docker has no runtime {wanted}; it has {', '.join(info.get('Runtimes') or {})}")
    return f"Docker {version['Version']} (API {version['ApiVersion']}), {info.get('Images', 0)} images"


async def _job(trials: Trials, runner: RunnerSettings, settings: Settings) -> str:
    """A job's script runs, and reaches the servers from there. Raises RunnerError."""
    mine = [
        r for r in settings.runners if (r.executor, r.docker.host) == (runner.executor, runner.docker.host)
    ]
    urls = dict.fromkeys(url for r in mine for url in (r.clone_url or r.url,) if url.startswith("http"))
    ended, output = await trials.run(runner, [_reach(url) for url in urls] or ["true"])
    said = [line.partition(_MARK)[2].strip() for line in output.splitlines() if line.startswith(_MARK)]
    if ended.code != 0:
        raise RunnerError("; ".join(said) or f"ended with {ended.code}: {output.strip()[-300:]}")
    return "; ".join(["a script ran", *said])


def _reach(url: str) -> str:
    """Shell that opens a connection, where the place has bash or Python to do it with."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    python = f"import socket; socket.create_connection(({host!r}, {port}), 10).close()"
    return f"""\
lost=no
if command -v python3 >/dev/null 2>&1; then found=$(python3 -I -S -c "{python}" 2>&1) || lost=yes
elif [ -n "$BASH_VERSION" ]; then found=$( (exec 3<>/dev/tcp/{host}/{port}) 2>&1) || lost=yes
else echo "{_MARK} {url}: not tried, no bash or python3 here"; fi
if [ "$lost" = yes ]; then echo "{_MARK} {url} can't be reached from a job: $(echo "$found" | tail -n 1)"; exit 1; fi"""
