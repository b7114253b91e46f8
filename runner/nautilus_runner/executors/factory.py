"""Which executors this machine can offer, and one of them for each job."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nautilus_runner.cgroup_tree import Tree, find_tree
from nautilus_runner.errors import JobError, JobMisconfigured, SystemFailure
from nautilus_runner.executors import containers, processes, sandboxing
from nautilus_runner.executors.base import Context, Executor
from nautilus_runner.executors.bubblewrap import Sandboxes
from nautilus_runner.executors.dummy import DummyExecutor
from nautilus_runner.executors.image_record import ImageBook, ImageRecord
from nautilus_runner.executors.process import ProcessExecutor
from nautilus_runner.files.removal import remove_tree
from nautilus_runner.settings import RunnerSettings

if TYPE_CHECKING:
    from nautilus_runner.executors.data_mounts import DataMounts
    from nautilus_runner.network.joining import Networking

log = logging.getLogger(__name__)

_DAEMON_TIMEOUT_S = 120


class Factory:
    """Makes executors. The Docker library is imported when the first container is wanted."""

    def __init__(self, data_dir: Path, system_id: str) -> None:
        self._data_dir = data_dir
        self._system_id = system_id
        self._groups: Tree | None = None
        self._group_prefix = f"nautilus-{system_id[-6:]}"
        self._daemons: dict[str, tuple[Any, tuple[str, ...]]] = {}
        self._networks: dict[str, Networking] = {}
        self._shares: dict[str, DataMounts] = {}
        self._lock = threading.Lock()
        self._sandboxes = Sandboxes()
        self.images = ImageRecord(data_dir / "images.json")

    def make(self, context: Context) -> Executor:
        """Raises JobError where the daemon can't be reached."""
        settings = context.settings
        if settings.executor == "docker":
            from nautilus_runner.building.shelf import Shelf
            from nautilus_runner.executors.docker import DockerExecutor

            api, _ = self.daemon(settings.docker.host)
            networking, shares = self.networking(settings.docker.host), self._shares[settings.docker.host]
            book = ImageBook(self.images, api)
            shelf = Shelf(api, self._system_id, self._data_dir / "built-images")
            return DockerExecutor(context, api, self._system_id, networking, shares, shelf, book=book)
        if settings.executor == "dummy":
            return DummyExecutor(context, self._builds(settings))
        if self._groups is None:
            self._groups = find_tree(self._group_prefix)
        return ProcessExecutor(context, self._builds(settings), self._groups, self._sandboxes)

    def daemon(self, host: str) -> tuple[Any, tuple[str, ...]]:
        """A client of the daemon at `host` ("" = DOCKER_HOST or the default socket), and our own networks there.

        Blocking on first use. Raises SystemFailure.
        """
        if host not in self._daemons:
            from nautilus_runner.executors.data_mounts import DataMounts
            from nautilus_runner.network.joining import Networking, own_container

            api = open_daemon(host)
            own = own_container(api)
            with self._lock:
                self._networks.setdefault(host, Networking(api, self._system_id, own))
                self._shares.setdefault(host, DataMounts(api, self._system_id))
                self._daemons.setdefault(host, (api, own.networks))
        return self._daemons[host]

    def networking(self, host: str) -> Networking:
        """Networks for jobs at the daemon. Blocking on first use. Raises SystemFailure."""
        self.daemon(host)
        return self._networks[host]

    def warnings(self) -> list[str]:
        """What an administrator should know of the daemons."""
        return [text for networking in self._networks.values() for text in networking.pool.warnings.values()]

    def sandbox_problem(self, settings: RunnerSettings) -> str:
        """Why process jobs of a registration can't be kept to its network mode; "" where they can. Blocking at the
        first use. Raises JobMisconfigured."""
        return sandboxing.problem(settings, self._sandboxes)

    def close(self, is_job: Callable[[str], bool]) -> None:
        """Remove what the jobs' networks were made of, where no job that goes on has one. Blocking."""
        for networking in self._networks.values():
            networking.pool.close(is_job)

    async def remove_orphans(
        self, runners: tuple[RunnerSettings, ...], is_known: Callable[[str], bool]
    ) -> None:
        """Remove what belongs to jobs that the journal does not know: folders, processes, containers.

        `is_known` is asked right before, since jobs come in meanwhile (and are journalled before anything else).
        """
        for folder in self.work_folders(runners):
            for path in list(folder.iterdir()):
                if not is_known(path.name):
                    log.info("orphan: %s removed", path)
                    await asyncio.to_thread(end_processes, path.name)
                    await asyncio.to_thread(remove_tree, path)
        if any(runner.executor == "process" for runner in runners):
            for name, group in find_tree(self._group_prefix).left().items():
                if not is_known(name.rpartition("-")[0]):
                    group.kill()
        for host in {runner.docker.host for runner in runners if runner.executor == "docker"}:
            try:
                api, _ = await asyncio.to_thread(self.daemon, host)
                await asyncio.to_thread(_remove_containers, api, self._system_id, is_known)
                served = [runner for runner in runners if runner.docker.host == host]
                await asyncio.to_thread(self.networking(host).tidy, served)
            except (JobError, OSError) as error:
                log.warning("orphans in Docker are not looked for: %s", error)

    def work_folders(self, runners: tuple[RunnerSettings, ...]) -> set[Path]:
        """The folders that work trees lie in."""
        return {self._builds(runner) for runner in runners}

    def _builds(self, settings: RunnerSettings) -> Path:
        """The folder of work trees: passable for the job's user, and listable only for us."""
        process = settings.process
        folder = Path(process.builds_dir) if process.builds_dir else self._data_dir / "builds"
        try:
            account = processes.account_of(process.user if settings.executor == "process" else "")
        except JobMisconfigured:
            account = processes.account_of("")
        if not process.builds_dir and not processes.can_reach(folder.parent, account):
            digest = hashlib.sha256(str(self._data_dir).encode()).hexdigest()[:8]
            folder = Path(f"/var/tmp/nautilus-runner-{digest}/builds")
            folder.parent.mkdir(mode=0o711, exist_ok=True)
            _refuse_foreign(folder.parent)
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        folder.chmod(0o711)
        return folder


def open_daemon(host: str) -> Any:
    """A client of a Docker daemon ("" = DOCKER_HOST or the default socket). Raises SystemFailure."""
    import docker
    from docker.utils import kwargs_from_env

    where = {"base_url": host} if host else kwargs_from_env()
    try:
        return docker.APIClient(version="auto", timeout=_DAEMON_TIMEOUT_S, num_pools=32, **where)
    except docker.errors.DockerException as error:
        raise SystemFailure(f"no Docker daemon answers: {error}") from error


def _refuse_foreign(folder: Path) -> None:
    """/var/tmp is everybody's: a folder that somebody else put there first is not ours to use."""
    info = folder.lstat()
    if info.st_uid != os.geteuid() or folder.is_symlink() or info.st_mode & 0o022:
        raise JobMisconfigured(f"{folder} belongs to somebody else; set runners.process.builds_dir")


def end_processes(key: str) -> None:
    """Kill what still runs of a job."""
    for pid in processes.marked(key):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, 9)


def _remove_containers(api: Any, system_id: str, is_known: Callable[[str], bool]) -> None:
    from nautilus_runner.executors.daemon import remove_labelled

    found: set[str] = set()
    filters = {"label": f"{containers.LABEL_RUNNER}={system_id}"}
    things = [
        *api.containers(all=True, filters=filters),
        *api.networks(filters=filters),
        *(api.volumes(filters=filters).get("Volumes") or []),
    ]
    for thing in things:
        found.add((thing.get("Labels") or {}).get(containers.LABEL_JOB, ""))
    for key in found - {""}:
        if not is_known(key):
            log.info("orphan: containers of job %s removed", key)
            remove_labelled(api, f"{containers.LABEL_JOB}={key}")
