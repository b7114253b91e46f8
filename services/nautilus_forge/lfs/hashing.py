"""The hash of an upload, which can begin while the gateway still writes it (`following`)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Protocol

from nautilus_forge.files import WriteOut, pieces

_BUFFER = 256 << 10


class Digest(Protocol):
    """Of `hashlib`."""

    def update(self, data: memoryview, /) -> None: ...

    def hexdigest(self) -> str: ...


@dataclass
class Hashing:
    """The SHA-256 of a file's first `offset` bytes. What has been read goes on to the disk at once: the file itself is
    to become the object.
    """

    digest: Digest = field(default_factory=hashlib.sha256)
    offset: int = 0
    _out: WriteOut = field(default_factory=WriteOut)

    def go_on(self, fd: int, most: int | None = None) -> int:
        """Goes on to the file's end as it is now, or for about `most` bytes; how many were read."""
        begin = self.offset
        for piece in pieces(fd, begin, most, _BUFFER):
            self.digest.update(piece)
            self.offset += len(piece)
            self._out.reached(fd, self.offset)
        return self.offset - begin

    def give_up(self) -> None:
        """There is nothing to leave."""
