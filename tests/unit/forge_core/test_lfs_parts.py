"""The parts of Git LFS that need no server: tokens, pointers in a repository, the files of objects."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nautilus_forge.errors import InsufficientStorage
from nautilus_forge.git.command import Git
from nautilus_forge.lfs import pointers
from nautilus_forge.lfs.store import LfsStore
from nautilus_forge.lfs.token import LfsGrant, signed, verified
from nautilus_forge.spool import Body

KEY = b"k" * 32


class TestToken:
    def test_it_says_what_it_was_made_for(self) -> None:
        grant = LfsGrant(7, "upload", 1000, user_id=3, key_id=9)
        assert verified(KEY, signed(KEY, grant)) == grant
        assert grant.is_expired(1000)
        assert not grant.is_expired(999)

    def test_another_key_signs_another_token(self) -> None:
        assert verified(b"x" * 32, signed(KEY, LfsGrant(7, "upload", 1000, user_id=3))) is None

    def test_no_bit_of_it_can_be_changed(self) -> None:
        token = signed(KEY, LfsGrant(7, "download", 1000, user_id=3))
        for position in range(4, len(token)):
            changed = token[:position] + ("A" if token[position] != "A" else "B") + token[position + 1 :]
            found = verified(KEY, changed)
            assert found is None or found == verified(KEY, token), (
                "only unused bits of the encoding may differ"
            )

    @given(st.text())
    def test_anything_else_is_none(self, text: str) -> None:
        assert verified(KEY, "lfs-" + text) is None


def pointer(content: bytes, extra: str = "") -> bytes:
    oid = hashlib.sha256(content).hexdigest()
    return (
        f"version https://git-lfs.github.com/spec/v1\n{extra}oid sha256:{oid}\nsize {len(content)}\n".encode()
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "one.git"
    subprocess.run(["git", "init", "-q", "--bare", str(path)], check=True)
    return path


async def commit(git: Git, files: dict[str, bytes], parent: str = "") -> str:
    entries = ""
    for name, content in files.items():
        sha = await git.text("hash-object", "-w", "--stdin", stdin=content)
        entries += f"100644 blob {sha}\t{name}\n"
    tree = await git.text("mktree", stdin=entries.encode())
    who = {f"GIT_{role}_{what}": "a@b" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    parents = ("-p", parent) if parent else ()
    return await git.with_env(who).text("commit-tree", tree, *parents, "-m", "x")


class TestPointers:
    async def test_those_of_all_objects(self, repository: Path) -> None:
        git = Git(repository)
        nearly = pointer(b"three").replace(b"sha256", b"sha255")
        await commit(
            git,
            {
                "a": pointer(b"one"),
                "b": pointer(b"two"),
                "c": nearly,
                "d": b"x" * 130,
                "e": pointer(b"four") + b"y" * 200,
            },
        )
        found = await pointers.pushed(git)
        assert found == {hashlib.sha256(content).hexdigest() for content in (b"one", b"two")}

    async def test_those_that_are_new_between_two_commits(self, repository: Path) -> None:
        git = Git(repository)
        first = await commit(git, {"a": pointer(b"one")})
        second = await commit(git, {"a": pointer(b"one"), "b": pointer(b"two")}, first)
        assert await pointers.between(git, first, second) == {hashlib.sha256(b"two").hexdigest()}

    async def test_none_in_an_empty_quarantine(self, repository: Path) -> None:
        assert await pointers.pushed(Git(repository)) == set()


@pytest.fixture
def body(tmp_path: Path) -> Iterator[Body]:
    path = tmp_path / "spooled"
    path.write_bytes(b"content")
    fd = os.open(path, os.O_RDONLY)
    yield Body(fd, path)
    os.close(fd)


class TestStore:
    OID = hashlib.sha256(b"content").hexdigest()

    def test_hash_and_size_are_checked(self, tmp_path: Path, body: Body) -> None:
        store = LfsStore(tmp_path)
        assert store.is_what_it_says(body, self.OID, 7)
        assert not store.is_what_it_says(body, self.OID, 8)
        assert not store.is_what_it_says(body, "0" * 64, 7)

    def test_a_file_is_taken_by_a_link_and_outlives_the_spool(self, tmp_path: Path, body: Body) -> None:
        store = LfsStore(tmp_path)
        relative = store.new_path(self.OID)
        assert relative.startswith(f"lfs-objects/{self.OID[:2]}/{self.OID[2:4]}/{self.OID[4:]}")
        store.take(body, relative)
        assert store.path(relative).stat().st_ino == body.path.stat().st_ino
        body.path.unlink()
        assert store.path(relative).read_bytes() == b"content"
        assert store.has(relative, 7)
        assert not store.has(relative, 8)

    def test_where_no_link_can_be_made_it_is_copied(
        self, tmp_path: Path, body: Body, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def across(*_: object, **__: object) -> None:
            raise OSError(18, "Invalid cross-device link")

        monkeypatch.setattr(os, "link", across)
        store = LfsStore(tmp_path)
        relative = store.new_path(self.OID)
        store.take(body, relative)
        assert store.path(relative).read_bytes() == b"content"
        assert [path.name for path in store.path(relative).parent.iterdir()] == [Path(relative).name]

    @pytest.mark.parametrize("call", ["fsync", "link"])
    def test_a_full_disk_leaves_nothing(
        self, tmp_path: Path, body: Body, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, call, full)
        store = LfsStore(tmp_path)
        with pytest.raises(InsufficientStorage):
            store.take(body, store.new_path(self.OID))
        assert [path for path in (tmp_path / "lfs-objects").rglob("*") if path.is_file()] == []

    def test_folders_go_with_their_last_file(self, tmp_path: Path, body: Body) -> None:
        store = LfsStore(tmp_path)
        relative = store.new_path(self.OID)
        store.take(body, relative)
        store.remove(relative)
        store.remove(relative)
        assert list((tmp_path / "lfs-objects").iterdir()) == []

    @pytest.mark.parametrize("path", ["lfs-objects/../secret", "artifacts/1", "/etc/passwd", ""])
    def test_no_path_leads_outside(self, tmp_path: Path, path: str) -> None:
        with pytest.raises(ValueError, match="not the path"):
            LfsStore(tmp_path).path(path)
