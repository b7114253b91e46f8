"""Files into and out of a job's container, as streams of tar: nothing of a job is ever unpacked on our side."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

from docker.errors import APIError, NotFound

from nautilus_runner.errors import PathError, SystemFailure
from nautilus_runner.executors.containers import BUILDS
from nautilus_runner.files.tree import TreeEntry

_KINDS = {tarfile.DIRTYPE: stat.S_IFDIR, tarfile.SYMTYPE: stat.S_IFLNK, tarfile.REGTYPE: stat.S_IFREG}


def put_tree(
    api: Any, container: str, stage: Path, project: str, files: Mapping[str, str], owner: tuple[int, int]
) -> None:
    """Copy `stage` to `project` (a path below /builds) and write `files` beside it in `project`.tmp. Blocking."""
    put_tar(api, container, BUILDS, lambda tar: _write_tree(tar, stage, project, files, owner))


def put_tar(api: Any, container: str, target: str, fill: Callable[[tarfile.TarFile], None]) -> None:
    """Stream what `fill` writes into the folder `target` of a container (running or not). Blocking."""
    read_fd, write_fd = os.pipe()
    failure: list[BaseException] = []

    def write() -> None:
        try:
            with (
                os.fdopen(write_fd, "wb") as pipe,
                tarfile.open(fileobj=pipe, mode="w|", bufsize=1 << 18) as tar,
            ):
                fill(tar)
        except BaseException as error:
            failure.append(error)

    writer = threading.Thread(target=write, name="put-tree", daemon=True)
    writer.start()
    try:
        with os.fdopen(read_fd, "rb") as source:
            api.put_archive(container, target, _chunks(source))
    finally:
        writer.join()
    if failure and not isinstance(failure[0], BrokenPipeError):
        raise SystemFailure(f"files can't be copied into the container: {failure[0]}") from failure[0]


def put_files(
    api: Any, container: str, folder: str, files: Mapping[str, str], owner: tuple[int, int]
) -> None:
    """Write small files into an existing folder below /builds. Blocking."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            _add_bytes(tar, f"{folder}/{name}", content.encode(errors="replace"), owner)
    api.put_archive(container, BUILDS, buffer.getvalue())


def read_file(api: Any, container: str, path: str, limit: int = 1 << 20) -> bytes:
    """One regular file of a container; b"" where there is none. Blocking."""
    try:
        stream, _ = api.get_archive(container, path)
        with tarfile.open(fileobj=StreamReader(stream), mode="r|") as tar:
            for member in tar:
                if member.isreg() and (content := tar.extractfile(member)):
                    return content.read(limit)
    except (NotFound, APIError):
        return b""
    return b""


class ContainerTree:
    """The project folder inside a container (running or not)."""

    def __init__(self, api: Any, container: str, project: str) -> None:
        self._api = api
        self._container = container
        self._project = f"{BUILDS}/{project}"
        self.refused: list[str] = []

    def walk(self, base: str) -> Iterator[TreeEntry]:
        self.refused = []
        hard_links: list[str] = []
        yield from self._stream(base, hard_links)
        for path in hard_links:  # their content came under another name: ask for each by itself
            yield from self._stream(path, [])

    def _stream(self, base: str, hard_links: list[str]) -> Iterator[TreeEntry]:
        path = f"{self._project}/{base}" if base else f"{self._project}/."
        try:
            stream, _ = self._api.get_archive(self._container, path, chunk_size=1 << 20)
        except NotFound:
            return
        parent = base.rpartition("/")[0]
        with tarfile.open(fileobj=StreamReader(stream), mode="r|") as tar:
            for member in tar:
                name = _name(member.name, base, parent)
                if not name:
                    continue
                if member.islnk():
                    hard_links.append(name)
                    continue
                kind = _KINDS.get(member.type)
                if kind is None:
                    continue
                entry = TreeEntry(name, kind | member.mode, member.mtime, member.size, member.linkname)
                entry.content = cast(IO[bytes], tar.extractfile(member)) if member.isreg() else None  # type: ignore[assignment]
                yield entry
                entry.content = None


def _name(member: str, base: str, parent: str) -> str:
    """A member's path below the project folder. The daemon names the root after the folder that was asked for."""
    parts = [part for part in member.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise PathError(f"{member}: leads out of the folder")
    if base:
        return "/".join([*([parent] if parent else []), *parts])
    return "/".join(parts)


def _write_tree(
    tar: tarfile.TarFile, stage: Path, project: str, files: Mapping[str, str], owner: tuple[int, int]
) -> None:
    def owned(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid, info.gid = owner
        info.uname = info.gname = ""
        return info

    parts = project.split("/")
    for depth in range(1, len(parts)):
        tar.addfile(owned(_folder("/".join(parts[:depth]))))
    tar.add(stage, project, filter=owned)
    tar.addfile(owned(_folder(f"{project}.tmp")))
    for name, content in files.items():
        _add_bytes(tar, f"{project}.tmp/{name}", content.encode(errors="replace"), owner)


def _folder(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, int(time.time())
    return info


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes, owner: tuple[int, int]) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(content), 0o600, int(time.time())
    info.uid, info.gid = owner
    tar.addfile(info, io.BytesIO(content))


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    while data := source.read(1 << 18):
        yield data


class StreamReader(io.RawIOBase):
    """A file to read from an iterable of chunks."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        parts: list[bytes] = []
        wanted = size if size >= 0 else 1 << 62
        while wanted:
            if not self._rest:
                self._rest = next(self._chunks, b"")
                if not self._rest:
                    break
            part, self._rest = self._rest[:wanted], self._rest[wanted:]
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts)
