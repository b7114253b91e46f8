"""Housekeeping: what is due, that it keeps everything that counts, and what killed programs left behind."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from nautilus_forge.git import configuration, maintenance
from nautilus_forge.git.command import Git
from nautilus_forge.git.locks import STALE_S, clear_stale_locks
from nautilus_forge.git.maintenance import MANY, Clutter, Maintenance, clear_abandoned, look, plan


def run(*args: str, at: Path, stdin: str | None = None) -> str:
    env = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        **{f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    done = subprocess.run(["git", *args], cwd=at, env=env, input=stdin, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "one.git"
    run("init", "-q", "--bare", "-b", "main", str(path), at=tmp_path)
    (path / "config").write_text(configuration.of_repository(tmp_path / "hooks"))
    tree = run("mktree", at=path, stdin="")
    run("update-ref", "refs/heads/main", run("commit-tree", tree, "-m", "first", at=path), at=path)
    return path


def names(commands: list[maintenance.Command]) -> list[str]:
    known = ("repack", "gc", "pack-refs", "commit-graph", "prune")
    return [next(word for word in command if word in known) for command in commands]


@pytest.mark.parametrize(
    ("found", "due"),
    [
        (Clutter(), []),
        (Clutter(packs=3, has_commit_graph=True), []),
        (Clutter(packs=1), ["commit-graph"]),
        (Clutter(loose=MANY.loose), ["repack", "commit-graph"]),
        (Clutter(packs=MANY.packs, has_commit_graph=True), ["repack", "commit-graph"]),
        (Clutter(refs=MANY.refs), ["pack-refs", "commit-graph"]),
        (Clutter(packs=MANY.packs, whole_age_s=MANY.whole_age_s), ["gc"]),
        (Clutter(whole_age_s=MANY.whole_age_s * 9), []),
    ],
)
def test_what_is_due(found: Clutter, due: list[str]) -> None:
    assert names(plan(found)) == due


def test_no_command_takes_more_than_one_core_to_pack() -> None:
    for command in [*plan(MANY), *plan(Clutter(loose=MANY.loose)), *maintenance.whole(prune=True)]:
        if "repack" in command or "gc" in command:
            assert "pack.threads=1" in command


async def test_a_cluttered_repository_is_packed_and_keeps_everything(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "MANY", Clutter(loose=1, packs=2, refs=10, whole_age_s=1e9))
    (repository / "objects" / "17").mkdir(exist_ok=True)
    (repository / "objects" / "17" / ("0" * 38)).touch()
    head = run("rev-parse", "main", at=repository)
    for number in range(12):
        run("update-ref", f"refs/heads/b{number}", head, at=repository)
    run("update-ref", "refs/keep-around/x", head, at=repository)
    (repository / "objects" / "17" / ("0" * 38)).unlink()
    assert look(repository).refs == 10
    await Maintenance().run(Git(repository))
    assert "refs/heads/b11" in (repository / "packed-refs").read_text()
    assert (repository / "objects" / "info" / "commit-graphs").is_dir()
    assert run("rev-parse", "b7", "refs/keep-around/x", at=repository) == f"{head}\n{head}"
    await Maintenance().pack(1, Git(repository), prune=True)
    after = look(repository)
    assert (after.packs, after.loose, after.has_commit_graph) == (1, 0, True)
    assert after.whole_age_s < 60
    assert list((repository / "objects" / "pack").glob("*.bitmap"))
    run("fsck", "--strict", at=repository)


async def test_one_asked_for_at_a_time(repository: Path) -> None:
    keeper = Maintenance()
    assert keeper.ask(1)
    assert not keeper.ask(1)
    assert keeper.ask(2)
    await keeper.pack(1, Git(repository), prune=False)
    assert keeper.ask(1)


async def test_it_runs_behind_everything_else(repository: Path) -> None:
    command = Git(repository, is_background=True).argv("gc")
    assert command[:4] == ("nice", "-n", "19", "git")
    assert Git(repository).argv("gc")[0] == "git"


def test_what_a_killed_push_left_goes_after_a_day(repository: Path) -> None:
    objects = repository / "objects"
    (objects / "pack").mkdir(exist_ok=True)
    old, new = objects / "tmp_objdir-incoming-old", objects / "tmp_objdir-incoming-new"
    pack = objects / "pack" / "tmp_pack_Ab12"
    for folder in (old, new):
        folder.mkdir()
        (folder / "x").touch()
    pack.touch()
    day_ago = time.time() - 90_000
    os.utime(old, (day_ago, day_ago))
    os.utime(pack, (day_ago, day_ago))
    clear_abandoned(repository)
    assert (old.exists(), new.exists(), pack.exists()) == (False, True, False)


def test_a_lock_of_a_killed_git_does_not_stop_pushes_for_ever(repository: Path) -> None:
    stale, fresh = repository / "refs/heads/main.lock", repository / "refs/heads/other.lock"
    outside = repository.parent / "outside.lock"
    for lock in (stale, fresh, outside):
        lock.touch()
    before = time.time() - STALE_S - 10
    for lock in (stale, outside):
        os.utime(lock, (before, before))
    removed = clear_stale_locks(repository, ["refs/heads/main", "refs/heads/other", "refs/../../outside"])
    assert removed == [stale]
    assert fresh.exists()
    assert outside.exists()


def test_which_refs_are_shown_and_which_are_hidden(repository: Path) -> None:
    head = run("rev-parse", "main", at=repository)
    for ref in (
        "keep-around/x",
        "tmp/x",
        "remotes/x/y",
        "merge-requests/1/head",
        "pipelines/3",
        "environments/p",
    ):
        run("update-ref", f"refs/{ref}", head, at=repository)
    shown = run("ls-remote", str(repository), at=repository)
    assert {line.split("\t")[1] for line in shown.splitlines()} == {
        "HEAD",
        "refs/heads/main",
        "refs/merge-requests/1/head",
        "refs/pipelines/3",
        "refs/environments/p",
    }
