"""What is in a job's archive, without fetching it: a ZIP's directory stands at its end, so ranges of it suffice.

GitLab has no route that lists an archive. Source: APPNOTE.TXT 6.3 §4.3 (ZIP), RFC 9110 §14 (ranges).
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from typing import Any

from nautilus.errors import GitLabError, TooLarge
from nautilus.gitlab.port import ArtifactFile

_TAIL_BYTES = 128 * 1024
"""At the end, where the directory of most archives is whole (its last record has at most 65,557 bytes)."""
_DIRECTORY_LIMIT_BYTES = 16 * 1024 * 1024
_WHOLE_LIMIT_BYTES = 32 * 1024 * 1024
"""Of an archive whose server knows no ranges, and sends it whole."""
_MOST_FILES = 50_000
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")

Fetch = Callable[[str], Any]
"""The answer (as of `requests`, its body unread) to a request with this Range."""


def files_of_archive(fetch: Fetch) -> list[ArtifactFile]:
    """Blocking. Raises TooLarge, GitLabError for what is no ZIP, and what `fetch` raises."""
    try:
        with zipfile.ZipFile(_Remote(fetch)) as archive:
            found = [info for info in archive.infolist() if not info.is_dir() and _is_inside(info.filename)]
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise GitLabError("the job's archive can't be read") from error
    if len(found) > _MOST_FILES:
        raise TooLarge(f"the job's archive has more than {_MOST_FILES} files")
    return [ArtifactFile(info.filename, info.file_size) for info in found]


def _is_inside(name: str) -> bool:
    return not name.startswith("/") and ".." not in name.split("/")


class _Remote(io.RawIOBase):
    """The archive as a file to read; its end is fetched first."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._at = 0
        with fetch(f"bytes=-{_TAIL_BYTES}") as answer:
            match = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            is_part = answer.status_code == 206 and match is not None
            self._tail = _body(answer, _TAIL_BYTES if is_part else _WHOLE_LIMIT_BYTES)
        self._size = int(match[3]) if is_part and match is not None else len(self._tail)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("before the archive's beginning")
        self._at = base + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = self._size if size < 0 else min(self._size, self._at + size)
        start, first = self._at, self._size - len(self._tail)
        if start >= end:
            return b""
        if end - start > _DIRECTORY_LIMIT_BYTES:
            raise TooLarge("the directory of the job's archive is too long to be read")
        self._at = end
        if start >= first:
            return self._tail[start - first : end - first]
        with self._fetch(f"bytes={start}-{end - 1}") as answer:
            if answer.status_code != 206:
                raise OSError("the server does not send ranges")
            return _body(answer, end - start)


def _body(answer: Any, limit_bytes: int) -> bytes:
    body = bytearray()
    for piece in answer.iter_content(65536):
        body += piece
        if len(body) > limit_bytes:
            raise TooLarge("the job's archive is too large to be listed")
    return bytes(body)
