"""Finds the parts of a multipart form that lies in a file, without reading the file's content.

Source: RFC 7578, RFC 2046 section 5.1.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from email.message import Message

from nautilus_forge.artifacts.errors import BrokenUpload

_HEAD = 64 << 10
_EXACT = 4 << 20
_TAIL = 64 << 10
_MAX_PARTS = 32
_LONGEST = 200
"""Bytes of a boundary; RFC 2046 allows 70."""


@dataclass(frozen=True)
class FilePart:
    """A part that has a file name: where its bytes are in the spooled body."""

    name: str
    filename: str
    offset: int
    length: int


@dataclass
class Form:
    """The parts of a form. `fields`: parts without a file name, decoded."""

    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, FilePart] = field(default_factory=dict)


def boundary_of(content_type: str) -> bytes:
    """The boundary that a `Content-Type` header names. Raises `BrokenUpload`."""
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_boundary()
    if message.get_content_type() != "multipart/form-data" or not boundary or len(boundary) > _LONGEST:
        raise BrokenUpload("file is missing")
    return boundary.encode("latin-1", "replace")


def scan(fd: int, size: int, boundary: bytes) -> Form:
    """Finds the parts of the body in `fd` (`size` bytes). Raises `BrokenUpload`.

    Bodies up to 4 MiB are searched whole. In a greater one the large part's end is looked for within the
    last 64 KiB alone: there may be one large part, with small ones before and after it, as runners send it.
    """
    form = Form()
    position = _skip_first_delimiter(fd, boundary)
    for _ in range(_MAX_PARTS):
        name, filename, start = _headers(fd, position)
        end = _end_of_part(fd, start, size, boundary)
        if filename is not None:
            form.files.setdefault(name, FilePart(name, filename, start, end - start))
        elif end - start <= _TAIL:
            form.fields.setdefault(name, os.pread(fd, end - start, start).decode("utf-8", "replace"))
        position = end + len(boundary) + 4
        after = os.pread(fd, 2, position)
        if after == b"--":
            return form
        if after != b"\r\n":
            raise BrokenUpload("file is invalid")
        position += 2
    raise BrokenUpload("file is invalid")


def first_file(fd: int) -> int | None:
    """Where the content of the first file begins in a form that is still coming in; None where its head says none.

    A guess: the delimiter is what the first line says, and only `scan` knows what the whole form is.
    """
    first_line = os.pread(fd, _HEAD, 0).split(b"\r\n", 1)[0]
    boundary = first_line.removeprefix(b"--")
    if boundary == first_line or not 0 < len(boundary) <= _LONGEST:
        return None
    position = len(first_line) + 2
    try:
        for _ in range(_MAX_PARTS):
            _, filename, start = _headers(fd, position)
            if filename is not None:
                return start
            position = _end_of_part(fd, start, start + _HEAD, boundary) + len(boundary) + 6
    except BrokenUpload:
        return None
    return None


def _skip_first_delimiter(fd: int, boundary: bytes) -> int:
    head = os.pread(fd, _HEAD, 0)
    first = b"--" + boundary + b"\r\n"
    at = 0 if head.startswith(first) else head.find(b"\r\n" + first) + 2
    if at == 1:
        raise BrokenUpload("file is missing")
    return at + len(first)


def _headers(fd: int, position: int) -> tuple[str, str | None, int]:
    """(name, file name, first byte of the content) of the part whose headers begin at `position`."""
    block = os.pread(fd, _HEAD, position)
    end = block.find(b"\r\n\r\n")
    if end < 0:
        raise BrokenUpload("file is invalid")
    message = Message()
    for line in block[:end].decode("utf-8", "replace").split("\r\n"):
        key, _, value = line.partition(":")
        message[key.strip()] = value.strip()
    name = message.get_param("name", header="content-disposition")
    if not isinstance(name, str):
        raise BrokenUpload("file is invalid")
    filename = message.get_filename()
    return name, filename, position + end + 4


def _end_of_part(fd: int, start: int, size: int, boundary: bytes) -> int:
    delimiter = b"\r\n--" + boundary
    near = os.pread(fd, min(size - start, _EXACT), start)
    found = near.find(delimiter)
    if found >= 0:
        return start + found
    base = max(start + len(near) - len(delimiter), size - _TAIL)
    found = os.pread(fd, max(0, size - base), base).find(delimiter)
    if found < 0:
        raise BrokenUpload("file is invalid")
    return base + found
