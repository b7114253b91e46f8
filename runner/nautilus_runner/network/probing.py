"""Whether jobs reach what they are told of: asked at the start, from where they run, and again until it is so.

A wrong address is a warning in the log, in status.json and of `nautilus-runner status`, before any job meets it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nautilus_runner.errors import JobError
from nautilus_runner.executors import containers
from nautilus_runner.network import plane as planes
from nautilus_runner.network.addresses import is_loopback
from nautilus_runner.network.modes import NetworkMode
from nautilus_runner.settings import RunnerSettings

if TYPE_CHECKING:
    from nautilus_runner.executors.factory import Factory
    from nautilus_runner.network.joining import Networking

log = logging.getLogger(__name__)

_WAIT_FOR_SERVER_S = 60.0
_AGAIN_S = (5.0, 15.0, 60.0, 300.0)
_PROBE_S = 60
_ROLE = "probe"
_API_ANSWERS = (200, 401, 403)


@dataclass(frozen=True, slots=True)
class Target:
    """`path` is asked for below `url`; `statuses` are answers of the right server's (empty: all below 500)."""

    name: str
    url: str
    path: str = ""
    statuses: tuple[int, ...] = ()
    is_json: bool = False


_KNOWN = {
    "CI_SERVER_URL": Target("", "", "/api/v4/version", _API_ANSWERS, is_json=True),
    "CI_API_V4_URL": Target("", "", "/version", _API_ANSWERS, is_json=True),
    "MLFLOW_TRACKING_URI": Target("", "", "/api/2.0/mlflow/experiments/search", is_json=True),
    "NAUTILUS_URL": Target("", "", "/-/nautilus", (200,)),
}


def targets(settings: RunnerSettings) -> tuple[Target, ...]:
    """What jobs of a registration are told to use, as its configuration says. Pure."""
    found = []
    for name, _, url in (line.partition("=") for line in settings.environment):
        known = _KNOWN.get(name)
        if known is not None and url.startswith(("http://", "https://")):
            found.append(Target(name, url, known.path, known.statuses, known.is_json))
    host = urlsplit(settings.url).hostname or ""
    if not any(target.name == "CI_SERVER_URL" for target in found) and not is_loopback(host):
        known = _KNOWN["CI_SERVER_URL"]  # what the server tells jobs of itself is most often the same
        found.append(Target("url", settings.url, known.path, known.statuses, known.is_json))
    return tuple(found)


def own_targets(settings: RunnerSettings) -> tuple[Target, ...]:
    """What the runner itself fetches sources from, for jobs. Pure."""
    known = _KNOWN["CI_SERVER_URL"]
    is_http = settings.clone_url.startswith(("http://", "https://"))
    found = Target("clone_url", settings.clone_url, known.path, known.statuses, known.is_json)
    return (found,) if is_http else ()


class Prober:
    """Keeps `warnings`, by registration; `on_change` hears of each change."""

    def __init__(self, executors: Factory, system_id: str, on_change: Callable[[], None]) -> None:
        self._executors = executors
        self._system_id = system_id
        self._on_change = on_change
        self._found: dict[str, tuple[str, ...]] = {}

    @property
    def warnings(self) -> list[str]:
        told = [f"{label}: {text}" for label, texts in self._found.items() for text in texts]
        return [*told, *self._executors.warnings()]

    async def watch(self, settings: RunnerSettings, is_answered: Callable[[], bool]) -> None:
        """Until all is well. Waits for the server's first answer to us, since before that nothing would answer jobs."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_FOR_SERVER_S):
                while not is_answered():  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.2)
        waits = iter(_AGAIN_S)
        wait_s = 0.0
        while True:
            problems = await self._problems(settings)
            self._tell(settings.label, problems)
            if not problems:
                return
            wait_s = next(waits, wait_s)
            await asyncio.sleep(wait_s)

    def forget(self, label: str) -> None:
        self._found.pop(label, None)

    async def _problems(self, settings: RunnerSettings) -> tuple[str, ...]:
        wanted, own = targets(settings), own_targets(settings)
        try:
            here = await asyncio.to_thread(_from_here, settings, own)
            told = [f"sources can't be fetched from {text}" for text in _told(own, here, "this machine")]
            if settings.executor == "docker":
                told += await asyncio.to_thread(self._from_containers, settings, wanted)
                return (*told, *await asyncio.to_thread(self._registry, settings))
            if settings.executor == "process" and (
                problem := await asyncio.to_thread(self._executors.sandbox_problem, settings)
            ):
                return (*told, problem)
            if settings.network_mode != "none":
                answers = await asyncio.to_thread(_from_here, settings, wanted)
                told += [f"jobs do not reach {text}" for text in _told(wanted, answers, "processes")]
            return tuple(told)
        except (JobError, OSError, ValueError, subprocess.SubprocessError) as error:
            return (f"whether jobs reach the server can't be asked: {error}",)

    def _tell(self, label: str, problems: tuple[str, ...]) -> None:
        before = self._found.get(label, ())
        if problems == before:
            return
        for text in problems:
            if text not in before:
                log.warning("%s: %s", label, text)
        if before and not problems:
            log.info("%s: jobs reach all that they are told of", label)
        self._found[label] = problems
        self._on_change()

    def _from_containers(self, settings: RunnerSettings, wanted: tuple[Target, ...]) -> list[str]:
        """As a job of this registration would; also makes the network that the first job then finds. Blocking."""
        mode = NetworkMode(settings.network_mode)
        if not wanted or mode is NetworkMode.NONE:
            return []
        networking = self._executors.networking(settings.docker.host)
        image = networking.helper_image(settings.docker.helper_image)
        if not image:
            return []  # what that means is told where a helper is needed
        key = f"probe-{settings.id}-{settings.short_token[:4]}"
        try:
            joined = networking.join(settings, mode, key, has_services=False)
            named = joined.environment({target.name: target.url for target in wanted})
            seen = [Target(t.name, named[t.name], t.path, t.statuses, t.is_json) for t in wanted]
            answers = self._asked(networking, image, joined.host_config(), _question(settings, seen))
        finally:
            networking.pool.release(key)
        where = f"containers (network {joined.network})"
        return [f"jobs do not reach {text}" for text in _told(wanted, answers, where)]

    def _asked(self, networking: Networking, image: str, network: dict[str, Any], question: str) -> list[str]:
        api = networking.api
        config = containers.container_config(
            image,
            host={**planes.powerless(), **network},
            environment={"PROBE": question},
            labels={containers.LABEL_RUNNER: self._system_id, containers.LABEL_ROLE: _ROLE},
            command=["-I", "-S", "-B", "-c", planes.program("probe")],
            entrypoint=["python3"],
            user="65534:65534",
        )
        made = api.create_container_from_config(config)["Id"]
        try:
            api.start(made)
            api.wait(made, timeout=_PROBE_S)
            return [str(text) for text in json.loads(api.logs(made, stdout=True, stderr=False) or b"[]")]
        finally:
            api.remove_container(made, force=True, v=True)

    def _registry(self, settings: RunnerSettings) -> list[str]:
        """Whether the daemon, which pulls images, reaches the registry: a login that it refuses is an answer."""
        if not settings.registry:
            return []
        from docker.errors import APIError

        from nautilus_runner.executors.images import explain

        api = self._executors.networking(settings.docker.host).api
        login = {"username": "nautilus-probe", "password": "none", "serveraddress": settings.registry}
        try:
            api._result(api._post_json(api._url("/auth"), data=login))
        except APIError as error:
            said = explain(error)
            if any(
                word in said.lower()
                for word in ("unauthorized", "denied", "forbidden", "incorrect", "401", "403")
            ):
                return []
            return [f"the Docker daemon does not reach the registry {settings.registry}: {said}"]
        return []


def _from_here(settings: RunnerSettings, wanted: tuple[Target, ...]) -> list[str]:
    """As a job that is a process would. Blocking."""
    if not wanted:
        return []
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", planes.program("probe")],
        env={"PROBE": _question(settings, wanted), "PATH": os.defpath},
        capture_output=True,
        timeout=_PROBE_S,
        check=True,
    )
    return [str(text) for text in json.loads(done.stdout)]


def _question(settings: RunnerSettings, wanted: Iterable[Target]) -> str:
    ca = ""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        ca = Path(settings.tls_ca_file).read_text() if settings.tls_ca_file else ""
    return json.dumps({"targets": [asdict(target) for target in wanted], "ca": ca})


def _told(wanted: Iterable[Target], answers: Iterable[str], where: str) -> Iterable[str]:
    for target, problem in zip(wanted, answers, strict=True):
        if problem:
            host = urlsplit(target.url).hostname or ""
            is_lost = is_loopback(host) and "container" in where
            hint = "; in a container that is the container itself" if is_lost else ""
            yield f"{target.name} {target.url} from {where}: {problem}{hint}"
