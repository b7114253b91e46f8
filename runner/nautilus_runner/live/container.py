"""A project folder inside a container, looked at through the daemon's archive calls: nothing is run in the container.

The daemon resolves links within the container's own files, so what a link could show is never more than the container
holds; still no path through a link is taken. A range of a file is read from its beginning (the archive has no other
way), and a folder's names come with all that lies below them: a large one is listed as far as it can be read in time.
"""

from __future__ import annotations

import base64
import io
import json
import posixpath
import re
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import IO, Any, BinaryIO, cast

from docker.errors import APIError, DockerException, NotFound

from nautilus_runner.errors import LiveRefused
from nautilus_runner.executors.container_files import StreamReader
from nautilus_runner.executors.containers import BUILDS
from nautilus_runner.live.folder import MAX_ITEMS, PART, Item, Listing, Opened, Writing, no_such, split

_LIST_S, _SKIP_S = 5.0, 20.0
_SPOOL_BYTES = 1 << 20
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)")
_GO_KINDS = {1 << 31: "folder", 1 << 27: "link", 1 << 26: "other", 1 << 25: "other", 1 << 24: "other"}
"""Go's os.FileMode: directory, symbolic link, device, named pipe, socket. Source: Go `io/fs/fs.go`."""
_TAR_KINDS = {
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "link",
    tarfile.REGTYPE: "file",
    tarfile.LNKTYPE: "file",
}


class ContainerFolder:
    """`owner`: the (uid, gid) that files written here belong to."""

    def __init__(self, api: Any, container: str, project: str, owner: tuple[int, int]) -> None:
        self._api = api
        self._container = container
        self._root = f"{BUILDS}/{project}"
        self._owner = owner

    def list(self, path: str) -> Listing:
        where = self._checked(path)
        if self._look(where, path).kind != "folder":
            raise LiveRefused("bad_path", f"{path} is no folder")
        until, items = time.monotonic() + _LIST_S, dict[str, Item]()
        try:
            stream, _ = self._api.get_archive(self._container, f"{where}/.", chunk_size=PART)
            with tarfile.open(fileobj=StreamReader(_until(stream, until)), mode="r|") as tar:
                for member in tar:
                    name = posixpath.normpath(member.name)
                    if "/" not in name and name not in (".", ".."):
                        items[name] = _item(member, name)
                    if len(items) >= MAX_ITEMS:
                        return Listing(_sorted(items), is_cut=True)
        except TimeoutError:
            return Listing(_sorted(items), is_cut=True)
        except (DockerException, tarfile.TarError) as error:
            raise _refused(path, error) from error
        return Listing(_sorted(items))

    def look(self, path: str) -> Item:
        return self._look(self._checked(path), path)

    def open(self, path: str, offset: int) -> Opened:
        where = self._checked(path)
        item = self._look(where, path)
        if item.kind == "folder":
            raise LiveRefused("is_folder", f"{path or 'the project folder'} is a folder")
        if item.kind != "file":
            raise LiveRefused("bad_path", f"{path} is no regular file")
        try:
            stream, _ = self._api.get_archive(self._container, where, chunk_size=PART)
            content = _Member(stream)
            content.skip(offset, time.monotonic() + _SKIP_S)
        except TimeoutError as error:
            raise LiveRefused(
                "too_large", f"{path}: byte {offset} is too far into a container's file"
            ) from error
        except (DockerException, tarfile.TarError, OSError) as error:
            raise _refused(path, error) from error
        size = content.size
        return Opened(Item(item.name, "file", size, item.modified_at), cast(BinaryIO, content))

    def write(self, path: str) -> Writing:
        parent, name = split(path)
        if not name:
            raise LiveRefused("bad_path", "the path names no file")
        folder = self._checked(parent)
        if self._look(folder, parent).kind != "folder":
            raise LiveRefused("bad_path", f"{parent} is no folder")
        info = tarfile.TarInfo(name)
        info.mode = self._mode_of(f"{folder}/{name}", path)
        info.uid, info.gid = self._owner
        return _ContainerWriting(self._api, self._container, folder, info)

    def _mode_of(self, where: str, path: str) -> int:
        """The permissions of the file that is replaced. Raises LiveRefused where it is no file."""
        try:
            before = self._stat(where, path)
        except LiveRefused:
            return 0o644
        if _kind(before["mode"]) != "file":
            raise LiveRefused("bad_path", f"{path} is no file: it can't be replaced")
        return int(before["mode"]) & 0o777

    def _checked(self, path: str) -> str:
        """The path in the container; none of the folders on the way is a link. Raises LiveRefused."""
        parent, name = split(path)
        where = self._root
        for part in parent.split("/") if parent else []:
            where = f"{where}/{part}"
            if _kind(self._stat(where, path)["mode"]) != "folder":
                raise LiveRefused("bad_path", f"{path} leads through a link or a file")
        return f"{where}/{name}" if name else where

    def _look(self, where: str, path: str) -> Item:
        found = self._stat(where, path)
        kind = _kind(found["mode"])
        size = int(found["size"]) if kind == "file" else 0
        link = str(found.get("linkTarget", "")) if kind == "link" else ""
        return Item(posixpath.basename(where), kind, size, _seconds(found["mtime"]), link)

    def _stat(self, where: str, path: str) -> dict[str, Any]:
        """The daemon's word on a path, without its content. Source: Docker Engine API, `ContainerArchiveInfo`."""
        url = self._api._url("/containers/{0}/archive", self._container)
        try:
            answer = self._api.head(url, params={"path": where}, timeout=10)
            if answer.status_code == 404:
                raise no_such(path)
            answer.raise_for_status()
            found: dict[str, Any] = json.loads(
                base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"])
            )
        except (OSError, KeyError, ValueError) as error:
            raise _refused(path, error) from error
        return found


class _ContainerWriting:
    """Kept here until it is whole: the daemon wants to know its size first."""

    def __init__(self, api: Any, container: str, folder: str, info: tarfile.TarInfo) -> None:
        self._api = api
        self._container = container
        self._folder = folder
        self._info = info
        self._spool = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115 - closed in close

    def add(self, data: bytes) -> None:
        self._spool.write(data)

    def finish(self) -> Item:
        info = self._info
        info.size, info.mtime = self._spool.tell(), int(time.time())
        self._spool.seek(0)
        try:
            self._api.put_archive(self._container, self._folder, _archive(info, cast(BinaryIO, self._spool)))
        except DockerException as error:
            raise _refused(info.name, error) from error
        return Item(info.name, "file", info.size, float(info.mtime))

    def close(self) -> None:
        self._spool.close()


class _Member(io.RawIOBase):
    """The one regular file of an archive that is still coming."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._tar = tarfile.open(fileobj=StreamReader(stream), mode="r|")  # noqa: SIM115 - closed in close
        member = self._tar.next()
        content = self._tar.extractfile(member) if member is not None and member.isreg() else None
        if member is None or content is None:
            raise tarfile.ReadError("not a regular file any more")
        self.size = member.size
        self._content: IO[bytes] = content

    def skip(self, count: int, until: float) -> None:
        """Raises TimeoutError."""
        while count > 0 and (data := self._content.read(min(count, 1 << 20))):
            count -= len(data)
            if time.monotonic() > until:
                self.close()
                raise TimeoutError

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._content.read(size)

    def close(self) -> None:
        """The daemon stops sending: what is left of the answer is not read."""
        if not self.closed:
            self._stream.close()
        super().close()


def _archive(info: tarfile.TarInfo, content: BinaryIO) -> Any:
    """The tar of one file, piece by piece."""
    yield info.tobuf(tarfile.PAX_FORMAT)
    while data := content.read(PART):
        yield data
    yield b"\0" * (-info.size % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE)


def _until(stream: Iterable[bytes], until: float) -> Iterator[bytes]:
    """The stream as long as there is time. Raises TimeoutError."""
    for data in stream:
        yield data
        if time.monotonic() > until:
            raise TimeoutError


def _kind(mode: int) -> str:
    return next((kind for bit, kind in _GO_KINDS.items() if mode & bit), "file")


def _item(member: tarfile.TarInfo, name: str) -> Item:
    kind = _TAR_KINDS.get(member.type, "other")
    size = member.size if kind == "file" else 0
    return Item(name, kind, size, float(member.mtime), member.linkname if kind == "link" else "")


def _sorted(items: dict[str, Item]) -> list[Item]:
    return [items[name] for name in sorted(items)]


def _seconds(text: str) -> float:
    """Of Go's RFC 3339, whose fractions may have nine digits; 0.0 where it is none."""
    match = _TIME.fullmatch(text)
    if match is None:
        return 0.0
    whole = datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00"))
    return whole.timestamp() + float(match[2] or 0)


def _refused(path: str, error: Exception) -> LiveRefused:
    if isinstance(error, NotFound):
        return no_such(path)
    said = error.explanation if isinstance(error, APIError) and error.explanation else str(error)
    return LiveRefused(
        "broken", f"the container's files can't be reached: {' '.join(str(said).split())[:200]}"
    )
