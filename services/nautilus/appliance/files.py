"""Files that are there whole or not at all, and locks that end with who holds them."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path


def replace_private(path: Path, content: str | bytes, owner: str | None = None) -> None:
    """Replaces a 0600 file, on the disk before it has its name. `owner`: the account that gets it (root only)."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    if owner is not None:
        shutil.chown(new, owner)
    new.replace(path)


def replace_public(path: Path, text: str) -> None:
    """Replaces a file that everybody may read (0644); nobody ever sees a part of it."""
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.chmod(0o644)
    new.replace(path)


def sync(path: Path) -> None:
    """What the file holds, or which names the folder holds, is on the disk when this returns."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def is_held(lock_file: Path) -> bool:
    """Whether somebody holds an exclusive flock on the file now; no file is no lock."""
    try:
        fd = os.open(lock_file, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False
