"""The store of inputs: whole or absent, never changed behind our back, the oldest first, never what is held."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import time
from pathlib import Path

import pytest

from nautilus_runner.data.store import Store
from nautilus_runner.data.trees import unpack
from nautilus_runner.errors import DataFailed


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "data")
    made.open()
    return made


def put(store: Store, content: bytes, used_at: float = 0.0) -> str:
    part = store.folder / "partial" / "part"
    part.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    store.add_blob(part, sha256, "https://h/x")
    if used_at:
        os.utime(store.folder / "records" / f"blobs-{sha256}", (used_at, used_at))
    return f"blobs/{sha256}"


def tar_of(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name.replace("_", "/"))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_what_is_put_is_there_read_only_and_what_was_changed_since_is_not(store: Store) -> None:
    name = put(store, b"abc")
    path = store.path_of(name) / "content"
    assert path.read_bytes() == b"abc"
    assert path.stat().st_mode & 0o777 == 0o444
    assert store.find(name) is not None
    path.chmod(0o644)
    path.write_bytes(b"xyz")
    assert store.find(name) is None
    assert not path.exists()


def test_room_is_made_oldest_first_and_not_at_all_where_it_would_not_do(store: Store) -> None:
    old, middle, new = (put(store, bytes([n]) * 100, used_at=float(n)) for n in (1, 2, 3))
    assert store.make_room(100, 350) == 0
    assert [record.name for record in store.records()] == [middle, new]
    assert store.find(old) is None
    assert store.hold("job", middle)
    assert store.make_room(300, 350) == 50
    assert {record.name for record in store.records()} == {middle, new}, "nothing goes for nothing"
    assert store.make_room(250, 350) == 0
    assert [record.name for record in store.records()] == [middle]


def test_a_lease_holds_until_it_is_given_back_or_its_job_is_unknown(store: Store) -> None:
    first, second = put(store, b"1"), put(store, b"2")
    assert store.hold("job-1", first) and store.hold("job-1", second) and store.hold("job-2", second)
    assert store.remove(first) == 0
    store.release("job-1")
    assert store.remove(first) == 1
    assert not store.hold("job-1", first)
    assert store.remove(second) == 0
    store.release_unknown(lambda job: job != "job-2")
    assert store.remove(second) == 1
    assert not list((store.folder / "trash").iterdir())


def test_an_archive_is_unpacked_readable_for_all_and_writable_for_nobody(store: Store) -> None:
    name = put(store, tar_of(a_b_c=b"deep", top=b"x"))
    sha256 = name.partition("/")[2]
    unpack(store, sha256, "https://h/x", 1 << 20, lambda _size: None)
    tree = store.path_of(f"trees/{sha256}")
    assert (tree / "a/b/c").read_bytes() == b"deep"
    modes = {path.stat().st_mode & 0o777 for path in (tree, *tree.rglob("*"))}
    assert modes == {0o555, 0o444}
    assert store.remove(f"trees/{sha256}") > 0
    assert not tree.exists()


@pytest.mark.parametrize("content", [b"no archive at all", b"", tar_of(a=b"x" * 5000)])
def test_what_is_no_archive_or_too_large_leaves_nothing(store: Store, content: bytes) -> None:
    name = put(store, content)
    with pytest.raises(DataFailed, match="can't be unpacked"):
        unpack(store, name.partition("/")[2], "https://h/x", 1000, lambda _size: None)
    assert not list((store.folder / "trees").iterdir())
    assert not list((store.folder / "trash").iterdir())


def test_a_member_with_an_endless_header_does_not_fill_the_memory(store: Store) -> None:
    info = tarfile.TarInfo("a")
    info.type, info.size = tarfile.XHDTYPE, (1 << 33) - 1
    name = put(store, info.tobuf(tarfile.USTAR_FORMAT) + bytes(1024))
    begun = time.monotonic()
    with pytest.raises(DataFailed, match="header is too long"):
        unpack(store, name.partition("/")[2], "https://h/x", 1 << 20, lambda _size: None)
    assert time.monotonic() - begun < 30


def test_what_a_killed_runner_left_half_removed_goes_at_the_next_start(store: Store) -> None:
    left = store.new_trash()
    (left / "file").write_text("x")
    Store(store.folder).open()
    assert not list((store.folder / "trash").iterdir())
