"""Lock files that a killed git left behind: without them gone, a ref could never be moved again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

STALE_S = 900.0
"""Git holds these locks for moments (a push of very many refs: for seconds)."""
_MOST = 1000


def clear_stale_locks(repository: Path, refs: Sequence[str]) -> list[Path]:
    """Removes the locks of these refs and of `packed-refs` that nobody can hold any more; which they were."""
    before = time.time() - STALE_S
    names = ["packed-refs", "HEAD", *refs[:_MOST]]
    removed = []
    for name in names:
        lock = repository / f"{name}.lock"
        with contextlib.suppress(OSError):
            if ".." not in lock.parts and lock.lstat().st_mtime < before:
                lock.unlink()
                removed.append(lock)
    return removed
