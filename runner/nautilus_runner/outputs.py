"""`NAUTILUS_OUTPUTS=all`: the work folder is the result, for a job that names no artifacts.

Whatever was in the folder before the job began and is unchanged stays out: the repository's files, inputs, caches,
other jobs' artifacts. What the folder held is remembered beside the job's journal, by size and hash.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from nautilus_runner.disk import MIB, mib
from nautilus_runner.errors import ArchiveError, JobMisconfigured
from nautilus_runner.files.tree import Tree, TreeEntry
from nautilus_runner.payload import Artifact
from nautilus_runner.work import Work

VARIABLE = "NAUTILUS_OUTPUTS"
ARTIFACT = Artifact(name="outputs", paths=(".",), when="always")
_KNOWN = "outputs-known"
_FOLDER = "folder"
_IN_MEMORY = 8 << 20
_CHUNK = 1 << 20


def is_wanted(work: Work) -> bool:
    """Raises JobMisconfigured for a value that means nothing."""
    value = work.variables.get(VARIABLE).strip().lower()
    if value not in ("", "none", "all"):
        raise JobMisconfigured(f"{VARIABLE} is {value!r}; use all or none")
    has_named = any(a.artifact_type == "archive" and (a.paths or a.untracked) for a in work.job.artifacts)
    return value == "all" and not has_named


def remember(work: Work, project: Path) -> None:
    """Write down what the staged folder holds, before the job gets it. Blocking."""
    known: dict[str, str] = {}
    for path, folders, files, fd in os.fwalk(project, follow_symlinks=False):
        if path == str(project) and ".git" in folders:
            folders.remove(".git")
        below = os.path.relpath(path, project)
        prefix = "" if below == "." else f"{below}/"
        for name in folders:
            info = os.stat(name, dir_fd=fd, follow_symlinks=False)
            is_link = stat.S_ISLNK(info.st_mode)
            known[f"{prefix}{name}"] = _link(os.readlink(name, dir_fd=fd)) if is_link else _FOLDER
        for name in files:
            known[f"{prefix}{name}"] = _mark(name, fd)
    text = json.dumps(known).encode(errors="surrogateescape")
    (work.entry.folder / _KNOWN).write_bytes(text)


class ChangedTree:
    """What of `tree` was made or changed by the job, up to `limit` bytes: beyond, walking raises ArchiveError."""

    def __init__(self, tree: Tree, known: dict[str, str], limit: int, scratch: Path) -> None:
        self._tree = tree
        self._known = known
        self._limit = limit
        self._scratch = scratch

    @property
    def refused(self) -> list[str]:
        return list(getattr(self._tree, "refused", []))

    def walk(self, base: str) -> Iterator[TreeEntry]:
        total = 0
        for entry in self._tree.walk(base):
            known = self._known.get(entry.path)
            if entry.path == ".git" or entry.path.startswith(".git/"):
                continue
            if entry.is_folder:
                if known != _FOLDER:
                    yield entry
                continue
            if entry.is_link:
                if known != _link(entry.link):
                    yield entry
                continue
            with _copied(entry, known, self._scratch) as copy:
                if copy is not None:
                    entry.content = copy  # type: ignore[assignment]
                elif entry.content is None:
                    continue
                total += entry.size
                if total > self._limit:
                    raise ArchiveError(
                        f"the outputs are more than {mib(self._limit)} (outputs_limit_mib of this runner): name the "
                        "ones that count with artifacts:paths"
                    )
                yield entry


def changed_tree(work: Work, tree: Tree) -> ChangedTree:
    try:
        known = json.loads((work.entry.folder / _KNOWN).read_bytes())
    except (OSError, ValueError):
        known = {}
    return ChangedTree(tree, known, work.settings.outputs_limit_mib * MIB, work.entry.folder)


class _copied:
    """A file that might be the one that was there before: hashed while it is copied, since it can be read but once.

    Gives the copy where it has changed. Where it can't be the same (its size) None is given and the content is left as
    it is; where it is the same, None, and the content is taken away.
    """

    def __init__(self, entry: TreeEntry, known: str | None, scratch: Path) -> None:
        self._entry = entry
        self._known = known or ""
        self._scratch = scratch
        self._file: IO[bytes] | None = None

    def __enter__(self) -> IO[bytes] | None:
        entry = self._entry
        if entry.content is None or not self._known.startswith(f"{entry.size}:"):
            return None
        digest = hashlib.sha256()
        self._file = cast(IO[bytes], tempfile.SpooledTemporaryFile(_IN_MEMORY, "w+b", dir=str(self._scratch)))
        left = entry.size
        while left > 0 and (data := entry.content.read(min(_CHUNK, left))):
            digest.update(data)
            self._file.write(data)
            left -= len(data)
        if f"{entry.size}:{digest.hexdigest()}" == self._known:
            entry.content = None
            return None
        self._file.seek(0)
        return self._file

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.close()


def _mark(name: str, folder: int) -> str:
    info = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISLNK(info.st_mode):
        return _link(os.readlink(name, dir_fd=folder))
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    digest = hashlib.sha256()
    with os.fdopen(fd, "rb") as file:
        while data := file.read(_CHUNK):
            digest.update(data)
    return f"{info.st_size}:{digest.hexdigest()}"


def _link(target: str) -> str:
    return f"link:{target}"
