"""A job's log on disk: byte-exact, idempotent, and without secrets."""

from __future__ import annotations

import errno
import os
import random
import zlib
from pathlib import Path

import pytest

from nautilus_forge.errors import BadRequest, InsufficientStorage
from nautilus_forge.traces.mask import Mask, replacement
from nautilus_forge.traces.store import TraceStore, parse_start

NO_SECRETS = Mask(())


@pytest.fixture
def store(tmp_path: Path) -> TraceStore:
    return TraceStore(tmp_path)


def log_of(store: TraceStore, job_id: int = 1) -> bytes:
    return store.path(job_id).read_bytes()


@pytest.mark.parametrize(
    ("header", "start"), [("0-10", 0), ("11-20", 11), ("15-20/6", 15), ("bytes 3-9/10", 3)]
)
def test_the_start_of_a_content_range_is_read(header: str, start: int) -> None:
    assert parse_start(header) == start


@pytest.mark.parametrize("header", ["", "x", "-5", "5", "bytes=*-3", "9" * 40 + "-1"])
def test_a_content_range_that_makes_no_sense_is_refused(header: str) -> None:
    with pytest.raises(BadRequest):
        parse_start(header)


def test_pieces_in_order_make_the_log(store: TraceStore) -> None:
    assert store.append(1, 0, b"BUILD TRACE", NO_SECRETS).size == 11
    assert store.append(1, 11, b" appended", NO_SECRETS).size == 20
    assert log_of(store) == b"BUILD TRACE appended"


def test_a_gap_is_refused_and_changes_nothing(store: TraceStore) -> None:
    store.append(1, 0, b"BUILD TRACE", NO_SECRETS)
    answer = store.append(1, 15, b"later", NO_SECRETS)
    assert (answer.is_accepted, answer.size) == (False, 11)
    assert log_of(store) == b"BUILD TRACE"


def test_a_piece_that_comes_twice_is_accepted_once(store: TraceStore) -> None:
    for _ in range(2):
        answer = store.append(1, 0, b"once", NO_SECRETS)
    assert (answer.is_accepted, answer.size, log_of(store)) == (True, 4, b"once")


def test_an_overlap_that_says_the_same_adds_the_rest(store: TraceStore) -> None:
    store.append(1, 0, b"hello", NO_SECRETS)
    assert store.append(1, 0, b"hello world", NO_SECRETS).size == 11
    assert log_of(store) == b"hello world"


def test_an_overlap_that_says_otherwise_is_refused(store: TraceStore) -> None:
    store.append(1, 0, b"hello", NO_SECRETS)
    assert not store.append(1, 3, b"XXXXX", NO_SECRETS).is_accepted
    assert log_of(store) == b"hello"


def test_a_secret_inside_one_piece_is_hidden_without_moving_offsets(store: TraceStore) -> None:
    answer = store.append(1, 0, b"a=supersecret!\n", Mask(["supersecret"]))
    assert (answer.size, answer.is_masked) == (15, True)
    assert log_of(store) == b"a=[MASKED]xxx!\n"


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_secret_split_over_two_pieces_is_hidden_wherever_it_is_cut(store: TraceStore, cut: int) -> None:
    mask, text = Mask(["canary-12345"]), b"...canary-12345...."
    store.append(1, 0, text[:cut], mask)
    assert b"canary-12345" not in log_of(store)
    assert store.append(1, cut, text[cut:], mask).size == len(text)
    assert log_of(store) == b"..." + replacement(12) + b"...."


def test_a_secret_that_arrives_byte_by_byte_is_hidden(store: TraceStore) -> None:
    mask, text = Mask(["canary-12345", "other-secret"]), b"x canary-12345 other-secret y"
    for at in range(len(text)):
        store.append(1, at, text[at : at + 1], mask)
    assert log_of(store) == b"x " + replacement(12) + b" " + replacement(12) + b" y"


def test_the_beginning_of_a_secret_is_not_shown_until_it_is_none(store: TraceStore) -> None:
    mask = Mask(["canary-12345"])
    store.append(1, 0, b"line\ncanary-", mask)
    assert store.visible_size(1, mask) == 5
    store.append(1, 12, b"bird\n", mask)
    assert store.visible_size(1, mask) == 17


def test_a_repeated_piece_with_a_hidden_secret_is_still_the_same_piece(store: TraceStore) -> None:
    mask = Mask(["supersecret"])
    for _ in range(2):
        answer = store.append(1, 0, b"a=supersecret!", mask)
    assert answer.is_accepted
    assert log_of(store) == b"a=[MASKED]xxx!"


def test_a_full_disk_leaves_the_log_as_it_was(store: TraceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.append(1, 0, b"kept", NO_SECRETS)
    real = os.pwrite

    def half_then_full(fd: int, data: memoryview, offset: int) -> int:
        if len(data) > 2:
            return real(fd, data[:2], offset)
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwrite", half_then_full)
    with pytest.raises(InsufficientStorage):
        store.append(1, 4, b"lost", NO_SECRETS)
    assert log_of(store) == b"kept"


def test_more_logs_than_open_files(tmp_path: Path) -> None:
    store = TraceStore(tmp_path, max_open=3)
    for round_ in range(3):
        for job in range(10):
            store.append(job, round_ * 2, b"ab", NO_SECRETS)
    assert all(log_of(store, job) == b"ababab" for job in range(10))
    store.close_all()


def test_a_bad_line_drops_doubles_and_cuts_pieces_yet_the_log_is_exact(store: TraceStore) -> None:
    chance = random.Random(7)
    text = bytes(chance.randrange(256) for _ in range(20_000))
    sent = 0
    while sent < len(text):
        piece = text[sent : sent + chance.randrange(1, 900)]
        match chance.randrange(4):
            case 0:
                continue
            case 1:
                piece = piece[: len(piece) // 2]
            case 2:
                store.append(1, sent, piece, NO_SECRETS)
        sent = store.append(1, sent, piece, NO_SECRETS).size
    assert log_of(store) == text
    assert store.checksum(1) == zlib.crc32(text)
