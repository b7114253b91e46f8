"""A job's sources: the checkout, its submodules and LFS objects, and what the log says of them.

Source: gitlab-runner 16.11 `shells/abstract.go` (writeGetSourcesScript).
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, replace
from pathlib import Path

from nautilus_runner.errors import GitError, ScriptFailed, SourceRefused, SystemFailure
from nautilus_runner.files.removal import remove_tree
from nautilus_runner.finishing import TRACKED
from nautilus_runner.payload import GitInfo
from nautilus_runner.sources import git, lfs
from nautilus_runner.sources.checkout import Server, check_out, tracked_files
from nautilus_runner.sources.gitmodules import Whereabouts
from nautilus_runner.sources.options import SourceOptions, source_options
from nautilus_runner.sources.submodules import Made, described, make_submodules
from nautilus_runner.staging import Staging

_PAUSE_S = 1.0
_ALL_TAGS = "+refs/tags/*:refs/tags/*"
_MIB = 1 << 20
_NOTHING = lfs.Placed()


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a checkout holds. `unserved`: submodules with LFS pointers whose server is not the job's own."""

    options: SourceOptions
    submodules: tuple[Made, ...] = ()
    lfs: lfs.Placed = _NOTHING
    unserved: tuple[str, ...] = ()
    attempts: int = 1


async def fetch_sources(staging: Staging) -> Fetched:
    """Make the checkout; says nothing (it runs beside the executor's preparation).

    Raises JobMisconfigured for variables that make no sense, ScriptFailed for what the project asks for in vain,
    SystemFailure for what is not its doing.
    """
    options = source_options(staging.job, staging.variables)
    if not options.is_fetched:
        return Fetched(options)
    for attempt in range(1, options.attempts + 1):
        if attempt > 1:
            await asyncio.sleep(_PAUSE_S)
            await asyncio.to_thread(_clear, staging.target)
        try:
            return await _fetch(staging, options, attempt)
        except SourceRefused as error:
            raise ScriptFailed(f"getting the sources: {error}", 1) from error
        except GitError as error:
            failure = error
    raise SystemFailure(f"getting the sources: {failure}") from failure


async def _fetch(staging: Staging, options: SourceOptions, attempt: int) -> Fetched:
    info, server = _info(staging, options), Server.of(staging.settings)
    mirrors, target = staging.work.machine.mirrors, staging.target
    await check_out(mirrors, info, target, server, is_checked_out=options.is_checked_out)
    made: list[Made] = []
    if options.is_checked_out and options.submodules.is_wanted:
        places = Whereabouts(server, info.repo_url, options.submodules.forces_https, _ssh_hosts(staging))
        made = await make_submodules(mirrors, places, options.submodules, info, target)
    placed, unserved = _NOTHING, tuple[str, ...]()
    if options.is_checked_out and not options.skips_lfs:
        placed, unserved = await _place_lfs(staging, info, server, made)
    wants = [a.untracked for a in staging.job.artifacts] + [c.untracked for c in staging.job.cache]
    if any(wants):
        below = b"".join(os.fsencode(f"{one.path}/") + b"\0" for one in made)
        (staging.folder / TRACKED).write_bytes(await tracked_files(target) + below)
    return Fetched(options, tuple(made), placed, unserved, attempt)


def _info(staging: Staging, options: SourceOptions) -> GitInfo:
    info = staging.job.git_info
    refspecs = info.refspecs
    if options.has_all_tags and refspecs and _ALL_TAGS not in refspecs:
        refspecs = (*refspecs, _ALL_TAGS)
    return info.model_copy(update={"depth": options.depth, "refspecs": refspecs})


def _ssh_hosts(staging: Staging) -> tuple[str, ...]:
    """The names by which the server is known over SSH. They only choose what is asked of the server itself."""
    names = ("CI_SERVER_SHELL_SSH_HOST", "CI_SERVER_HOST")
    return tuple(host.lower() for name in names if (host := staging.variables.get(name)))


async def _place_lfs(
    staging: Staging, info: GitInfo, server: Server, made: list[Made]
) -> tuple[lfs.Placed, tuple[str, ...]]:
    store, limit_mib = staging.work.machine.lfs, staging.settings.lfs_limit_mib
    files = size = fetched = 0
    oid_bytes = 32 if info.repo_object_format == "sha256" else 20
    unserved: list[str] = []
    public = server.public(info.repo_url)
    by_http = replace(server, clone_url="") if server.clone_url.startswith("ssh") else server
    main = by_http.remotes(info.repo_url)[0]
    places: list[tuple[str, Path, git.Remote | None, git.Remote]] = [("", staging.target, main, public)]
    places += [(m.path, m.folder, _http(m), m.public) for m in made]
    for path, folder, remote, known_as in places:
        if not await lfs.has_lfs(folder):
            continue
        if remote is None:
            unserved.append(path or ".")
            continue
        placed = await lfs.place_objects(folder, remote, known_as, store, limit_mib, oid_bytes=oid_bytes)
        files, size, fetched = files + placed.files, size + placed.size, fetched + placed.fetched
    return lfs.Placed(files, size, fetched), tuple(unserved)


def _http(made: Made) -> git.Remote | None:
    """The job's own server by HTTP: only there its objects are asked for."""
    return next((r for r in made.remotes if r.ssh is None), None) if made.is_ours else None


def _clear(folder: Path) -> None:
    """What a failed attempt left."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            remove_tree(entry)
        else:
            entry.unlink()


def describe_sources(staging: Staging) -> None:
    """The lines before the wait for the checkout. Raises JobMisconfigured."""
    options = source_options(staging.job, staging.variables)
    if options.warning:
        staging.trace.warning(options.warning)
    if options.strategy == "none":
        staging.trace.notice("Skipping Git repository setup")
    elif options.strategy == "empty":
        staging.trace.notice("Skipping Git repository setup and creating an empty build directory")
    elif options.depth:
        staging.trace.notice(f"Fetching changes with git depth set to {options.depth}...")
    else:
        staging.trace.notice("Fetching changes...")


def describe_checkout(staging: Staging, fetched: Fetched) -> None:
    """The lines after it."""
    trace, options, info = staging.trace, fetched.options, staging.job.git_info
    if fetched.attempts > 1:
        trace.warning(f"Getting the sources succeeded at attempt {fetched.attempts} of {options.attempts}.")
    if options.is_fetched:
        trace.notice("Created fresh repository.")
        if options.is_checked_out:
            trace.notice(f"Checking out {info.sha[:8]} as detached HEAD (ref is {info.ref})...")
        else:
            trace.notice("Skipping Git checkout")
        if staging.variables.get("GIT_CLEAN_FLAGS"):
            trace.raw("GIT_CLEAN_FLAGS changes nothing here: every job gets a fresh folder.")
    trace.raw("")
    if not options.submodules.is_wanted:
        trace.notice("Skipping Git submodules setup")
    else:
        trace.notice(described(options.submodules))
        for made in fetched.submodules:
            trace.raw(f"Submodule path '{made.path}': checked out '{made.sha}'")
        trace.notice("Updated submodules")
    if fetched.lfs.files:
        trace.raw(
            f"Git LFS: {fetched.lfs.files} files, {fetched.lfs.size / _MIB:.1f} MiB; "
            f"{fetched.lfs.fetched} objects were not on this machine yet"
        )
    for path in fetched.unserved:
        trace.warning(f"{path} has Git LFS files on another server than the job's own: their pointers stay")
