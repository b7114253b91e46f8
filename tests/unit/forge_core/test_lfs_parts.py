"""The parts of Git LFS that need no server: tokens, pointers in a repository, the files of objects."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nautilus_forge.errors import InsufficientStorage
from nautilus_forge.git.command import Git
from nautilus_forge.lfs import pointers
from nautilus_forge.lfs.ahead import WORTHWHILE, HashAhead
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


class TestHashAhead:
    """With a file that grows as nginx lets it grow."""

    PIECE = bytes(range(256)) * 4096

    def upload(self, spool: Path, name: str, pieces: int) -> tuple[int, int]:
        """Written piece by piece; an open file, and how much was hashed when it was complete."""
        ahead = HashAhead(spool)
        ahead.expect(pieces << 20)
        with (spool / name).open("wb", buffering=0) as file:
            for _ in range(pieces):
                file.write(self.PIECE)
                os.sched_yield()
            end = time.monotonic() + 10
            while name.isdigit() and not self.has_begun(ahead) and time.monotonic() < end:
                time.sleep(0.01)
        fd = os.open(spool / name, os.O_RDONLY)
        progress = ahead.take(fd)
        begun = progress.offset
        progress.read(fd)
        assert progress.digest.hexdigest() == hashlib.sha256(self.PIECE * pieces).hexdigest()
        assert ahead.take(fd).offset == 0, "it was taken over once"
        return fd, begun

    def has_begun(self, ahead: HashAhead) -> bool:
        return any(one.progress.offset for one in list(ahead._files.values()))

    def test_the_hash_is_the_file_s_wherever_it_was_taken_over(self, tmp_path: Path) -> None:
        fd, begun = self.upload(tmp_path, "0000000001", 20)
        os.close(fd)
        assert 0 < begun <= 20 << 20

    def test_what_is_no_body_of_the_gateway_s_is_not_followed(self, tmp_path: Path) -> None:
        fd, begun = self.upload(tmp_path, "other", 17)
        os.close(fd)
        assert begun == 0

    def test_small_uploads_start_nothing(self, tmp_path: Path) -> None:
        ahead = HashAhead(tmp_path)
        ahead.expect(WORTHWHILE - 1)
        assert ahead._thread is None

    def test_a_deleted_file_is_let_go_and_the_thread_ends(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("nautilus_forge.lfs.ahead._PATIENCE_S", 0.2)
        ahead = HashAhead(tmp_path)
        (tmp_path / "0000000002").write_bytes(self.PIECE * 16)
        ahead.expect(16 << 20)
        end = time.monotonic() + 10
        while not ahead._files and time.monotonic() < end:
            time.sleep(0.005)
        [one] = ahead._files.values()
        (tmp_path / "0000000002").unlink()
        while ahead._thread is not None and time.monotonic() < end:
            time.sleep(0.01)
        assert ahead._files == {}
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(one.fd)


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
