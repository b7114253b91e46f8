"""Folders of ours that hold what can be had again, kept below a size: what was used longest ago goes first."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path


def files_below(folder: Path, suffix: str = "") -> Iterator[Path]:
    """Every file at any depth whose name ends so. A folder that goes away meanwhile has none (`Path.glob` fails)."""
    for parent, _folders, names in os.walk(folder):
        for name in names:
            if name.endswith(suffix):
                yield Path(parent, name)


def remove_file(path: Path) -> None:
    path.unlink(missing_ok=True)


def remove_oldest(
    files: Iterator[Path],
    limit_bytes: int,
    is_kept: Callable[[Path], bool],
    *,
    stale_before: float = 0.0,
    remove: Callable[[Path], None] = remove_file,
) -> int:
    """Remove files until what is left takes `limit_bytes` or less, and all that were last used before `stale_before`
    (seconds since the epoch); the bytes that went. Blocking. Raises OSError where one can't be removed.

    What `is_kept` says yes to stays, and counts: it is asked right before the file would go.
    """
    found = []
    for path in files:
        with contextlib.suppress(FileNotFoundError):
            info = path.stat()
            found.append((info.st_mtime, info.st_size, path))
    over = sum(size for _, size, _ in found) - limit_bytes
    removed = 0
    for used_at, size, path in sorted(found):
        if removed >= over and used_at >= stale_before:
            break
        if not is_kept(path):
            remove(path)
            removed += size
    return removed
