"""git's index of a fresh checkout, told that files whose content was put in place are what the commit has.

Without that `git status` of a job without git-lfs would call every large file changed. Only the recorded times and
sizes are written; what the files are called after (the pointers) stays.
Source: git `Documentation/gitformat-index.txt`.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Collection
from pathlib import Path

_HEAD = struct.Struct(">4sLL")
_STAT = 40
_EXTENDED = 0x4000
_EARLIER_S = 10  # older than the index itself, or git would look at the content after all


def record(tree: Path, names: Collection[bytes], *, oid_bytes: int = 20) -> None:
    """Set the times of `names` (paths below `tree`) back a little, and write them with their sizes into its index.

    Leaves an index of a kind that it does not know alone. Blocking.
    """
    path = _git_dir(tree) / "index"
    content = bytearray(path.read_bytes())
    if len(content) < _HEAD.size + oid_bytes:
        return
    magic, version, count = _HEAD.unpack_from(content)
    if magic != b"DIRC" or version not in (2, 3):
        return
    at = _HEAD.size
    for _ in range(count):
        flags_at = at + _STAT + oid_bytes
        (flags,) = struct.unpack_from(">H", content, flags_at)
        name_at = flags_at + (4 if flags & _EXTENDED else 2)
        end = content.index(b"\0", name_at)
        name = bytes(content[name_at:end])
        if name in names:
            content[at : at + _STAT] = _stat(os.fsencode(tree) + b"/" + name, bytes(content[at : at + _STAT]))
        at += (end - at + 8) & ~7
    body = bytes(content[:-oid_bytes])
    part = path.with_name("index.new")
    part.write_bytes(body + hashlib.new("sha1" if oid_bytes == 20 else "sha256", body).digest())
    part.rename(path)


def _stat(path: bytes, old: bytes) -> bytes:
    """The ten fields of an entry; its mode stays."""
    info = os.lstat(path)
    earlier = int(info.st_mtime) - _EARLIER_S
    os.utime(path, (earlier, earlier), follow_symlinks=False)
    info = os.lstat(path)
    (mode,) = struct.unpack_from(">L", old, 24)
    fields = (
        *(int(info.st_ctime), info.st_ctime_ns % 10**9, earlier, 0),
        *(info.st_dev, info.st_ino, mode, info.st_uid, info.st_gid, info.st_size),
    )
    return struct.pack(">10L", *(field & 0xFFFFFFFF for field in fields))


def _git_dir(tree: Path) -> Path:
    git = tree / ".git"
    return git if git.is_dir() else tree / git.read_text().removeprefix("gitdir: ").strip()
