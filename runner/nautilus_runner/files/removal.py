"""Removing a tree that a job could have written."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path


def remove_tree(path: Path) -> None:
    """Remove everything at `path`, never following a link; folders that forbid it are opened up first.

    Never raises: what can't be removed is left.
    """
    if not path.exists() and not path.is_symlink():
        return
    shutil.rmtree(path, ignore_errors=True)
    if not path.exists():
        return
    for attempt in range(64):  # each round opens up one more level
        if not _open_up(path) and attempt:
            break
    shutil.rmtree(path, ignore_errors=True)


def _open_up(path: Path) -> bool:
    """Give ourselves access to the folders that can be seen; True when that changed anything."""
    changed = False
    with contextlib.suppress(OSError):
        for _name, _folders, _files, fd in os.fwalk(path, follow_symlinks=False):
            for name in _folders:
                with contextlib.suppress(OSError):
                    info = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    if info.st_mode & 0o700 != 0o700:
                        os.chmod(name, 0o700, dir_fd=fd)
                        changed = True
    return changed
