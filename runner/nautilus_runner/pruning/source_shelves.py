"""What the work of earlier jobs left for later ones: mirrors of repositories, checkpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from nautilus_runner.checkpoints.store import CheckpointStore
from nautilus_runner.pruning.plan import Item
from nautilus_runner.pruning.shelves import tree_bytes
from nautilus_runner.sources.mirror import Mirrors


class MirrorShelf:
    """Whole mirrors: a repository's next job fetches it anew. There is no limit of their own, so they are only
    measured where something has to go (`is_measured`)."""

    def __init__(self, mirrors: Mirrors, *, is_measured: bool) -> None:
        self._mirrors = mirrors
        self._is_measured = is_measured

    def items(self) -> Iterator[Item]:
        for path in self._mirrors.removed_before():
            yield Item("mirror", path.name, 0, 0.0, is_leftover=True)
        for path, is_used in self._mirrors.kept() if self._is_measured else ():
            with contextlib.suppress(OSError):
                yield Item("mirror", path.name, tree_bytes(path), path.stat().st_mtime, is_used)

    def remove(self, item: Item) -> bool:
        return self._mirrors.remove(item.name)


class CheckpointShelf:
    """Those that no job needs, nor one that may still be tried again."""

    def __init__(self, store: CheckpointStore, is_known: Callable[[str], bool]) -> None:
        self._store = store
        self._is_known = is_known

    def items(self) -> Iterator[Item]:
        for kept in self._store.kept(self._is_known):
            yield Item(
                "checkpoint", kept.name, kept.size, kept.written_at, kept.is_needed, is_stale=kept.is_over
            )

    def remove(self, item: Item) -> bool:
        return self._store.remove(item.name, self._is_known)
