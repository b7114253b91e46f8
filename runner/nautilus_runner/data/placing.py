"""The inputs of one job: fetched before anything of it is prepared, and linked into its project folder.

What a job finds at an input's path is a link to the one read-only copy of this machine; where its user can't come to
that (process jobs of a closed data folder) it is a copy of its own.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from nautilus_runner.data.hub import DataHub, Held, outbound_for
from nautilus_runner.data.outbound import origin_of
from nautilus_runner.data.sources import Access
from nautilus_runner.data.wishes import VARIABLE, Input, parse_inputs
from nautilus_runner.disk import mib
from nautilus_runner.errors import DataFailed, JobError, JobMisconfigured
from nautilus_runner.executors.base import SharedFolder
from nautilus_runner.executors.processes import account_of, can_reach
from nautilus_runner.settings import RunnerSettings
from nautilus_runner.work import Work

_MIB = 1 << 20
INPUTS = "/nautilus/inputs"  # in containers
_SERVER = ("CI_SERVER_URL", "CI_API_V4_URL")  # how the configuration tells jobs of the server
_TRACKER = ("MLFLOW_TRACKING_URI", "NAUTILUS_URL")


@dataclass(frozen=True, slots=True)
class Placement:
    """What is linked into a job's folder before the job gets it. `is_linked`: not copied."""

    held: tuple[Held, ...]
    is_linked: bool = True


def wishes_of(work: Work) -> tuple[Input, ...]:
    """Raises JobMisconfigured."""
    text = work.variables.files().get(VARIABLE, "") or work.variables.get(VARIABLE)
    return parse_inputs(text) if text else ()


async def fetch_inputs(work: Work, wanted: tuple[Input, ...]) -> Placement:
    """All inputs, held for the job. Raises DataFailed, DiskFull, JobMisconfigured.

    The executor finds the folders that it must show to the job in the context.
    """
    hub, access = work.machine.data, _access(work)
    limit = work.settings.unpack_limit_mib * _MIB
    tasks = []
    try:
        async with outbound_for(access, hub.settings) as outbound, asyncio.TaskGroup() as group:
            for wish in wanted:
                providing = hub.provide(work.entry.key, wish, access, outbound, work.trace.raw, limit)
                tasks.append(group.create_task(providing))
    except BaseExceptionGroup as group_of_errors:  # an `except*` would put what it raises into a group again
        raise _first(group_of_errors) from None
    held = tuple(task.result() for task in tasks)
    work.trace.raw(f"{len(held)} inputs, {mib(sum(one.size for one in held))}.")
    is_docker = work.settings.executor == "docker"
    is_linked = is_docker or await asyncio.to_thread(_is_reachable, work, hub)
    if is_linked:
        work.context.shared = tuple(_shared(hub, one, is_docker) for one in held)
    return Placement(held, is_linked)


def place(work: Work, placement: Placement, project: Path) -> None:
    """Put the inputs into the staged project folder. Blocking. Raises JobMisconfigured, DataFailed."""
    shared = {one.name: one for one in work.context.shared}
    for held in placement.held:
        target = project / held.path
        _make_way(project, target.parent, held.path)
        if target.is_symlink() or target.exists():
            raise JobMisconfigured(f"the input {held.path!r} is in the way of a file of the repository")
        try:
            if placement.is_linked:
                inside = "/content" if held.name.startswith("blobs/") else ""
                target.symlink_to(f"{shared[held.name].seen_at}{inside}")
            else:
                _copy(_content(work.machine.data, held), target)
        except OSError as error:
            raise DataFailed(f"the input {held.path!r} can't be placed: {error.strerror or error}") from error
    _exclude(project, [held.path for held in placement.held])


def _shared(hub: DataHub, held: Held, is_docker: bool) -> SharedFolder:
    """Containers have the folder at a place of their own; processes go to where it lies."""
    folder = hub.store.path_of(held.name)
    kind, _, sha256 = held.name.partition("/")
    seen_at = f"{INPUTS}/{kind}-{sha256[:32]}" if is_docker else str(folder)
    return SharedFolder(held.name, folder, seen_at, held.size)


def _content(hub: DataHub, held: Held) -> Path:
    path = hub.store.path_of(held.name)
    return path / "content" if held.name.startswith("blobs/") else path


def _is_reachable(work: Work, hub: DataHub) -> bool:
    user = work.settings.process.user if work.settings.executor == "process" else ""
    return can_reach(hub.store.folder / "blobs", account_of(user))


def _make_way(project: Path, folder: Path, shown: str) -> None:
    """The folders above an input, none of them a link that the repository put there."""
    at = project
    for part in folder.relative_to(project).parts:
        at = at / part
        if at.is_symlink() or (at.exists() and not at.is_dir()):
            raise JobMisconfigured(f"the input {shown!r} leads through a file or link of the repository")
        at.mkdir(exist_ok=True)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copyfile(source, target)
        os.utime(target)


def _exclude(project: Path, paths: list[str]) -> None:
    """Git need not speak of inputs as untracked files; the folder is still ours."""
    info = project / ".git" / "info"
    if not (project / ".git").is_dir() or info.is_symlink():
        return
    info.mkdir(exist_ok=True)
    with (info / "exclude").open("a", encoding="utf-8") as file:
        file.writelines(f"/{path}\n" for path in paths)


def _access(work: Work) -> Access:
    settings, job = work.settings, work.job
    repository, own = urlsplit(job.git_info.repo_url), urlsplit(settings.clone_url or settings.url)
    given = urlunsplit((repository.scheme, repository.netloc.rpartition("@")[2], repository.path, "", ""))
    lines = [line.partition("=") for line in (*settings.default_environment, *settings.environment)]
    told = {name: value for name, _, value in lines if _is_web(value)}
    servers = [settings.url, settings.clone_url, given, *(told.get(name, "") for name in _SERVER)]
    trackers = [settings.nautilus_url, *(told.get(name, "") for name in _TRACKER)]
    data = work.machine.data.settings
    return Access(
        scope=work.cache_scope,
        server_url=settings.url,
        repository_url=urlunsplit((own.scheme, own.netloc, repository.path, "", "")),
        job_token=job.token,
        servers=frozenset(origin_of(url) for url in servers if _is_web(url)),
        trackers=frozenset(origin_of(url) for url in trackers if _is_web(url)),
        get=work.variables.get,
        place=data.s3.place if data.s3 is not None else None,
        ca_file=settings.tls_ca_file,
        aliases=_aliases(settings, [given, *(told.get(name, "") for name in _SERVER)], trackers),
    )


def _aliases(settings: RunnerSettings, servers: list[str], trackers: list[str]) -> dict[tuple[str, int], str]:
    """Addresses that are good in jobs alone, and our own ways to the same servers."""
    found = {origin_of(url): settings.url for url in servers if _is_web(url)}
    if settings.nautilus_url:
        found |= {origin_of(url): settings.nautilus_url for url in trackers if _is_web(url)}
    own = {origin_of(url) for url in (settings.url, settings.nautilus_url) if _is_web(url)}
    return {origin: base for origin, base in found.items() if origin not in own}


def _is_web(url: str) -> bool:
    return url.startswith(("http://", "https://")) and bool(urlsplit(url).hostname)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = next((one for one in found.exceptions if isinstance(one, JobError)), found.exceptions[0])
    return found
