"""Bare mirrors, one per repository, owned by the runner: the only place where git meets the network.

A mirror holds what jobs asked for: shallow as long as they asked for shallow history, whole once one needed it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from nautilus_runner.errors import GitError, SourceRefused
from nautilus_runner.files.in_use import InUse
from nautilus_runner.sources import git

log = logging.getLogger(__name__)

_WHOLE = 0  # "depth" of a whole history, as GitLab's
_KEPT_PIPELINES = 50
_SUFFIX, _GONE = ".git", ".gone"
_BY_AGE = ("git", "for-each-ref", "--sort=-creatordate", "--format=delete %(refname)")
_TIDY_EVERY = 100
_LISTED = 4000
_REMEMBERED = 1000
_UNREACHABLE = (
    "unable to access",
    "Authentication failed",
    "could not read Username",
    "Could not resolve",
    "returned error",
    "not found",
    "early EOF",
    "RPC failed",
    "not our ref",
    "remote ref",
    "unadvertised object",
    "Host key verification failed",
    "Permission denied",
    "Could not read from remote repository",
    "certificate",
)


@dataclass(frozen=True, slots=True)
class Held:
    """A mirror in exclusive use; `parents` of the newest commits (a few thousand at most)."""

    path: Path
    parents: dict[str, list[str]]


class Mirrors:
    """All mirrors below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._mirrors: dict[str, Mirror] = {}
        self._in_use = InUse()

    def of(self, remote: git.Remote, object_format: str = "sha1") -> Mirror:
        name = hashlib.sha256(f"{remote.url} {object_format}".encode()).hexdigest()[:32] + _SUFFIX
        if name not in self._mirrors:
            self._mirrors[name] = Mirror(self._folder / name, self._folder, object_format, self._in_use)
        return self._mirrors[name]

    def kept(self) -> Iterator[tuple[Path, bool]]:
        """Every mirror on disk, and whether it is in use; its folder's time says when it last was. Blocking."""
        for path in self._folder.glob(f"*{_SUFFIX}"):
            yield path, self._in_use.has(path.name)

    def removed_before(self) -> Iterator[Path]:
        """What is left of mirrors in whose removal we were killed. Blocking."""
        yield from self._folder.glob(f"*{_GONE}")

    def remove(self, name: str) -> bool:
        """Remove a mirror (or what is left of one), of whatever thread; it is fetched anew when a job wants it.

        False: it is in use, or could not be removed. Blocking.
        """
        gone = path = self._folder / name
        if name.endswith(_SUFFIX):
            gone = self._folder / f"{name}.{time.time_ns()}{_GONE}"
            with self._in_use.unless(name) as is_free:
                if not is_free:
                    return False
                with contextlib.suppress(FileNotFoundError):
                    path.rename(gone)
                if name in self._mirrors:
                    self._mirrors[name].forget()
        shutil.rmtree(gone, ignore_errors=True)
        return not gone.exists()


class Mirror:
    """One repository. `hold` gives exclusive use; between jobs nothing of it is in use."""

    def __init__(self, path: Path, home: Path, object_format: str, in_use: InUse) -> None:
        self.path = path
        self._in_use = in_use
        self._home = home
        self._object_format = object_format
        self._lock = asyncio.Lock()
        self._is_ready = False
        self._fetches = 0
        self._known: dict[tuple[str, tuple[str, ...]], int] = {}

    @asynccontextmanager
    async def hold(
        self,
        remotes: Sequence[git.Remote],
        sha: str,
        refspecs: tuple[str, ...],
        depth: int,
        *,
        must_ask: bool = False,
    ) -> AsyncIterator[Held]:
        """The mirror, with `sha` and the refspecs' targets in it, until the block ends.

        `remotes` are ways to the same repository, tried in order. `must_ask`: the server has not yet said that this
        job may read it, so it is asked whatever we have. Raises GitError.
        """
        with self._in_use.using(self.path.name):
            async with self._lock:
                parents = await self._ready(remotes, sha, refspecs, depth, must_ask=must_ask)
                yield Held(self.path, parents)
                await self._tidy()
                with contextlib.suppress(OSError):
                    os.utime(self.path)  # pruning asks when it was used

    def forget(self) -> None:
        """Its folder is gone, while nobody used it."""
        self._is_ready = False
        self._fetches = 0
        self._known.clear()

    async def _ready(
        self,
        remotes: Sequence[git.Remote],
        sha: str,
        refspecs: tuple[str, ...],
        depth: int,
        *,
        must_ask: bool,
    ) -> dict[str, list[str]]:
        """The parents of the newest commits, fetched where they have to be. Raises GitError."""
        if not must_ask and self._has(sha, refspecs, depth):
            return await self._parents(sha, depth)
        parents = await self._fetch(remotes, sha, refspecs, depth)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[sha, refspecs] = depth
        return parents

    def _has(self, sha: str, refspecs: tuple[str, ...], depth: int) -> bool:
        known = self._known.get((sha, refspecs))
        return known is not None and (known == _WHOLE or 0 < depth <= known)

    async def _fetch(
        self, remotes: Sequence[git.Remote], sha: str, refspecs: tuple[str, ...], depth: int
    ) -> dict[str, list[str]]:
        last: GitError | None = None
        for remote in remotes:
            for _attempt in range(2):
                try:
                    await self._ensure()
                    await self._fetch_from(remote, refspecs, depth)
                    return await self._parents(sha, depth)
                except SourceRefused:
                    raise
                except GitError as error:
                    last = error
                    if any(words in str(error) for words in _UNREACHABLE):
                        break  # nothing wrong with the mirror: try the next way
                    log.warning("mirror %s: %s; made anew", self.path.name, error)
                    await asyncio.to_thread(self._discard)
        raise last or GitError("no address to fetch the repository from")

    async def _parents(self, sha: str, depth: int) -> dict[str, list[str]]:
        """The newest commits that `sha` is made of, each with its parents. Raises GitError where it is not there."""
        count = 1 if depth == _WHOLE else _LISTED
        argv = ["git", "rev-list", "--parents", f"--max-count={count}", f"{sha}^{{commit}}", "--"]
        listing = (await self._run(argv)).decode("ascii").splitlines()
        return {line.split()[0]: line.split()[1:] for line in listing}

    async def _fetch_from(self, remote: git.Remote, refspecs: tuple[str, ...], depth: int) -> None:
        remote.checked()
        is_shallow = (self.path / "shallow").exists()
        is_fresh = not (self.path / "packed-refs").exists() and not any((self.path / "refs").iterdir())
        argv = git.fetch_argv(
            remote.url,
            refspecs,
            depth=depth if is_shallow or is_fresh else _WHOLE,
            unshallow=is_shallow and depth == _WHOLE,
        )
        try:
            await git.run(argv, cwd=self.path, env=git.environment(self._home, remote))
        except GitError as error:
            raise remote.explained(error) from error
        self._fetches += 1

    async def _ensure(self) -> None:
        if self._is_ready:
            return
        if not (self.path / "HEAD").exists():
            await asyncio.to_thread(self._discard)
            argv = [
                "git",
                "init",
                "--quiet",
                "--bare",
                "--template=",
                f"--object-format={self._object_format}",
            ]
            await git.run([*argv, str(self.path)], cwd=self._home, env=git.environment(self._home))
        else:
            await asyncio.to_thread(_break_locks, self.path)
        self._is_ready = True

    async def _tidy(self) -> None:
        """Forget old pipelines' refs and repack, once in a while."""
        if self._fetches < _TIDY_EVERY:
            return
        self._fetches = 0
        listing = await self._run([*_BY_AGE, "refs/pipelines/", "refs/nautilus/"])
        stale = listing.decode().splitlines()[_KEPT_PIPELINES:]
        for command in stale:
            await self._run(["git", "update-ref", "-d", command.removeprefix("delete ")])
        await self._run(["git", "-c", "gc.auto=6700", "gc", "--auto", "--quiet"])
        self._known.clear()

    async def _run(self, argv: Sequence[str]) -> bytes:
        return await git.run(argv, cwd=self.path, env=git.environment(self._home))

    def _discard(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._is_ready = False
        self._known.clear()


def _break_locks(path: Path) -> None:
    """Remove what a killed git left; the data folder's lock says that nobody else works here."""
    for folder, _folders, files in os.walk(path):
        for name in files:
            if name.endswith(".lock"):
                (Path(folder) / name).unlink(missing_ok=True)
