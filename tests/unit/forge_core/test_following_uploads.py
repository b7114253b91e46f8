"""Bodies are hashed and copied while the gateway still writes them: with files that grow as nginx lets them grow."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nautilus_forge import files, following
from nautilus_forge.files import Copy, WriteOut
from nautilus_forge.following import WORTHWHILE, Follower, Work
from nautilus_forge.lfs.hashing import Hashing
from nautilus_forge.spool import Body

PIECE = bytes(range(256)) * 4096
PIECES = WORTHWHILE // len(PIECE) + 3


def until(is_so: Callable[[], bool], meanwhile: Callable[[], None] = lambda: None) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end, "it never became so"
        meanwhile()
        time.sleep(0.002)


def write(path: Path, pieces: int = PIECES) -> None:
    with path.open("ab", buffering=0) as file:
        for _ in range(pieces):
            file.write(PIECE)


@contextmanager
def opened(path: Path) -> Iterator[Body]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield Body(fd, path)
    finally:
        os.close(fd)


class Noted:
    """Work that counts how far it is."""

    def __init__(self) -> None:
        self.offset = 0
        self.is_given_up = False

    def go_on(self, fd: int, most: int | None = None) -> int:
        del most
        begin, self.offset = self.offset, os.fstat(fd).st_size
        return self.offset - begin

    def give_up(self) -> None:
        self.is_given_up = True


class Notes:
    """All the work that a follower has begun."""

    def __init__(self) -> None:
        self.all: list[Noted] = []

    def begin(self, _: int) -> Noted:
        self.all.append(Noted())
        return self.all[-1]

    @property
    def is_far(self) -> bool:
        return len(self.all) == 1 and self.all[0].offset >= WORTHWHILE


def until_far(follower: Follower[Noted], notes: Notes, path: Path) -> None:
    """An upload is announced, and written; announced again in case that this machine has no time for it just now."""
    follower.expect()
    write(path)
    until(lambda: notes.is_far, follower.expect)


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def follower(tmp_path: Path, notes: Notes) -> Follower[Noted]:
    return Follower(tmp_path, notes.begin)


def is_at_rest(follower: Follower[Noted]) -> bool:
    return follower._thread is None


class TestFollowing:
    def test_what_is_written_is_worked_on_and_taken_over_once(
        self, follower: Follower[Noted], notes: Notes, tmp_path: Path
    ) -> None:
        until_far(follower, notes, tmp_path / "0000000001")
        with opened(tmp_path / "0000000001") as body:
            assert follower.take(body) is notes.all[0]
            assert follower.take(body) is None
        assert not notes.all[0].is_given_up

    def test_a_body_that_was_taken_is_not_begun_again(
        self, follower: Follower[Noted], notes: Notes, tmp_path: Path
    ) -> None:
        """It lies there until it has been linked; the next one is looked at meanwhile."""
        until_far(follower, notes, tmp_path / "0000000001")
        with opened(tmp_path / "0000000001") as body:
            follower.take(body)
            write(tmp_path / "0000000002")
            until(lambda: len(notes.all) == 2, follower.expect)
            with opened(tmp_path / "0000000002") as second:
                assert follower.take(second) is notes.all[1]
        assert len(notes.all) == 2

    @pytest.mark.parametrize("name", ["other", ".hidden", "0000000001.part"])
    def test_what_is_no_body_is_left_alone(
        self, follower: Follower[Noted], notes: Notes, tmp_path: Path, name: str
    ) -> None:
        write(tmp_path / name)
        (tmp_path / "0000000007").mkdir()
        (tmp_path / "0000000008").symlink_to(tmp_path / name)
        until_far(follower, notes, tmp_path / "0000000009")
        assert len(notes.all) == 1

    def test_a_deleted_body_is_given_up_and_the_thread_ends(
        self, follower: Follower[Noted], notes: Notes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(following, "_PATIENCE_S", 0.05)
        write(tmp_path / "0000000001")
        follower.expect()
        until(lambda: notes.is_far)
        [one] = follower._files.values()
        (tmp_path / "0000000001").unlink()
        until(lambda: is_at_rest(follower))
        assert notes.all[0].is_given_up
        assert follower._files == {}
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(one.fd)

    def test_a_body_that_does_not_grow_any_more_is_given_up(
        self, follower: Follower[Noted], notes: Notes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A gateway that was killed left it."""
        monkeypatch.setattr(following, "_STALLED_S", 0.05)
        monkeypatch.setattr(following, "_PATIENCE_S", 0.05)
        write(tmp_path / "0000000001")
        follower.expect()
        until(lambda: is_at_rest(follower))
        assert [one.is_given_up for one in notes.all] == [True]

    def test_work_that_fails_is_given_up(self, tmp_path: Path) -> None:
        """The disk is full, say: whoever gets the body will be told when he tries himself."""

        class Failing(Noted):
            def go_on(self, fd: int, most: int | None = None) -> int:
                raise OSError(28, "No space left on device")

        work = Failing()
        follower: Follower[Noted] = Follower(tmp_path, lambda _: work)
        write(tmp_path / "0000000001")
        follower.expect()
        until(lambda: work.is_given_up)
        with opened(tmp_path / "0000000001") as body:
            assert follower.take(body) is None

    def test_another_file_of_that_name_gets_nothing(
        self, follower: Follower[Noted], notes: Notes, tmp_path: Path
    ) -> None:
        write(tmp_path / "0000000001")
        (tmp_path / "elsewhere").mkdir()
        write(tmp_path / "elsewhere" / "0000000001")
        follower.expect()
        until(lambda: notes.is_far)
        with opened(tmp_path / "elsewhere" / "0000000001") as body:
            assert follower.take(body) is None
        assert notes.all[0].is_given_up

    def test_nothing_is_followed_without_a_gateway_or_an_upload(self, notes: Notes, tmp_path: Path) -> None:
        write(tmp_path / "0000000001")
        alone = Follower(None, notes.begin)
        alone.expect()
        idle = Follower(tmp_path, notes.begin)
        with opened(tmp_path / "0000000001") as body:
            assert (alone.take(body), idle.take(body)) == (None, None)
        assert (alone._thread, idle._thread, notes.all) == (None, None, [])

    def test_a_folder_that_is_not_there_yet_is_waited_for(self, notes: Notes, tmp_path: Path) -> None:
        follower = Follower(tmp_path / "lfs", notes.begin)
        follower.expect()
        (tmp_path / "lfs").mkdir()
        until_far(follower, notes, tmp_path / "lfs" / "0000000001")


class TestWriteOut:
    def test_whole_pieces_go_to_the_disk_each_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[tuple[int, int]] = []
        system = files._sync_file_range()

        def begin(fd: int, offset: int, length: int, flags: int) -> int:
            asked.append((offset, length))
            return system(fd, offset, length, flags)

        monkeypatch.setattr(files, "_sync_file_range", lambda: begin)
        write(tmp_path / "body", 20)
        out = WriteOut()
        with opened(tmp_path / "body") as body:
            for end in (1 << 20, 9 << 20, 9 << 20, 20 << 20):
                out.reached(body.fd, end)
            assert system(body.fd, 0, 20 << 20, 2) == 0, "the kernel knows the call"
        assert asked == [(0, 8 << 20), (8 << 20, 8 << 20)]


class TestWork:
    """Whenever it is taken over, the result is that of the whole file."""

    @pytest.mark.parametrize("ahead", [0, 1, PIECES - 1, PIECES])
    def test_the_hash(self, tmp_path: Path, ahead: int) -> None:
        path = tmp_path / "0000000001"
        hashing = Hashing()
        write(path, ahead)
        with opened(path) as body:
            hashing.go_on(body.fd)
            write(path, PIECES - ahead)
            assert hashing.go_on(body.fd) == (PIECES - ahead) * len(PIECE)
        assert hashing.digest.hexdigest() == hashlib.sha256(PIECE * PIECES).hexdigest()

    @pytest.mark.parametrize("ahead", [0, 1, PIECES - 1, PIECES])
    @pytest.mark.parametrize("start", [0, 171])
    def test_the_copy(self, tmp_path: Path, ahead: int, start: int) -> None:
        path, final = tmp_path / "0000000001", tmp_path / "new" / "final"
        write(path, ahead)
        copy = Copy(tmp_path / "tmp", start)
        with opened(path) as body:
            copy.go_on(body.fd)
            write(path, PIECES - ahead)
            copy.finish(body.fd, len(PIECE) * PIECES - start - 10, final, 0o440)
        assert final.read_bytes() == (PIECE * PIECES)[start:-10]
        assert final.stat().st_mode & 0o777 == 0o440
        assert list((tmp_path / "tmp").iterdir()) == []

    @pytest.mark.parametrize("make", [lambda _: Hashing(), lambda folder: Copy(folder / "tmp", 3)])
    def test_a_piece_at_a_time(self, tmp_path: Path, make: Callable[[Path], Work]) -> None:
        write(tmp_path / "0000000001")
        work = make(tmp_path)
        with opened(tmp_path / "0000000001") as body:
            assert 1 << 20 <= work.go_on(body.fd, 1 << 20) <= 2 << 20
        work.give_up()
        assert list(tmp_path.rglob("upload-*")) == []
