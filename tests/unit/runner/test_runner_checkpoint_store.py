"""Which checkpoints pruning may take: never one that a job needs, nor one whose job may still be tried again."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from nautilus_runner.checkpoints.store import FOLDER, CheckpointStore, Kept
from nautilus_runner.files.tree import DiskTree

HOUR, DAY = 3600.0, 86400.0


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints")


def leave(store: CheckpointStore, tmp_path: Path, scope: str, age_s: float, *, is_settled: bool) -> Path:
    """What an attempt left so long ago."""
    project = tmp_path / "project"
    (project / FOLDER).mkdir(parents=True, exist_ok=True)
    (project / FOLDER / "model").write_bytes(b"weights")
    path = store.save(scope, 7, DiskTree(tmp_path, "project"), 100, is_settled=is_settled)
    assert path is not None
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def only(store: CheckpointStore, *known: str) -> Kept:
    [kept] = store.kept(lambda key: key in known)
    return kept


@pytest.mark.parametrize(
    ("age_s", "is_settled", "is_needed", "is_over"),
    [
        (HOUR, False, True, False),
        (13 * DAY, False, True, False),  # its machine failed, or it was preempted: another attempt comes
        (15 * DAY, False, False, True),
        (HOUR, True, True, False),  # its script failed: somebody may press the button
        (2 * DAY, True, False, False),
        (15 * DAY, True, False, True),
    ],
)
def test_it_stays_while_another_attempt_may_come(
    store: CheckpointStore, tmp_path: Path, age_s: float, is_settled: bool, is_needed: bool, is_over: bool
) -> None:
    path = leave(store, tmp_path, "a", age_s, is_settled=is_settled)
    found = only(store)
    assert (found.is_needed, found.is_over) == (is_needed, is_over)
    assert store.remove(found.name, lambda key: False) is not is_needed
    assert path.exists() is is_needed
    assert path.parent.exists() is is_needed


def test_it_stays_while_a_job_that_began_from_it_is_here(store: CheckpointStore, tmp_path: Path) -> None:
    path = leave(store, tmp_path, "a", 20 * DAY, is_settled=True)
    assert store.claim("a", "server-8") == (7, path)
    assert store.claim("nobody left anything", "server-9") is None
    found = only(store, "server-8")
    assert found.is_needed and not found.is_over
    assert not store.remove(found.name, lambda key: key == "server-8")
    assert not only(store).is_needed, "the job is over, and its claim with it"
    assert store.remove(found.name, lambda key: True) and not path.parent.exists()


def test_the_bound_of_all_checkpoints_takes_none_that_a_job_began_from(
    store: CheckpointStore, tmp_path: Path
) -> None:
    paths = {scope: leave(store, tmp_path, scope, DAY, is_settled=True) for scope in ("a", "b")}
    store.claim("a", "server-8")
    store.save("c", 9, DiskTree(tmp_path, "project"), 0)
    assert paths["a"].exists() and not paths["b"].exists()


def test_what_a_killed_runner_left_unfinished_goes(store: CheckpointStore, tmp_path: Path) -> None:
    path = leave(store, tmp_path, "a", HOUR, is_settled=False)
    part = path.with_name("8.123.part")
    part.write_bytes(b"half")
    states = {kept.name: kept.is_over for kept in store.kept(lambda key: False)}
    assert states == {f"{path.parent.name}/{path.name}": False, f"{path.parent.name}/{part.name}": False}
    os.utime(part, (time.time() - 2 * HOUR,) * 2)
    [over] = [kept for kept in store.kept(lambda key: False) if kept.is_over]
    assert store.remove(over.name, lambda key: False) and not part.exists() and path.exists()
