"""Masking: secrets never come out, and how the stream is cut never shows in the result."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from nautilus_runner.trace.masking import Masker


def masked(pieces: list[bytes], phrases: list[str], prefixes: tuple[str, ...] = ()) -> bytes:
    masker = Masker(phrases, prefixes)
    return b"".join([masker.feed(piece) for piece in pieces]) + masker.flush()


def test_whole_and_cut_secrets_become_the_mask() -> None:
    assert masked([b"a secret b"], ["secret"]) == b"a [MASKED] b"
    assert masked([b"a sec", b"ret b"], ["secret"]) == b"a [MASKED] b"
    assert masked([bytes([c]) for c in b"a secret b"], ["secret"]) == b"a [MASKED] b"


def test_what_only_begins_like_a_secret_comes_out_in_the_end() -> None:
    masker = Masker(["secret"])
    assert masker.feed(b"a sec") == b"a "
    assert masker.feed(b"tor") == b"sector"
    assert masker.feed(b" se") == b" "
    assert masker.flush() == b"se"


def test_the_longest_of_overlapping_secrets_is_masked() -> None:
    assert masked([b"secret-extended secret"], ["secret", "secret-extended"]) == b"[MASKED] [MASKED]"
    assert masked([b"secret-ext", b"ended"], ["secret", "secret-extended"]) == b"[MASKED]"
    assert masked([b"secret-ext", b"ra"], ["secret", "secret-extended"]) == b"[MASKED]-extra"


def test_tokens_are_masked_after_their_prefix_even_at_the_end_and_in_pieces() -> None:
    assert masked([b"x glpat-Ab_c=1.2-3 y"], []) == b"x glpat-[MASKED] y"
    assert masked([b"x glp", b"at-", b"Ab", b"cd", b" y"], []) == b"x glpat-[MASKED] y"
    assert masked([b"glpat-"], []) == b"glpat-"
    assert masked([b"glpat- x"], []) == b"glpat- x"
    assert masked([b"mytok_123\n"], [], ("mytok_",)) == b"mytok_[MASKED]\n"


def test_telling_parameters_of_addresses_are_masked() -> None:
    url = b"http://h/p?a=1&private_token=abc&X-Amz-Signature=00ff end"
    assert masked([url], []) == b"http://h/p?a=1&private_token=[MASKED]&X-Amz-Signature=[MASKED] end"


def test_without_secrets_bytes_pass_unchanged_and_at_once() -> None:
    masker = Masker([])
    data = bytes(range(256)) * 10
    assert masker.feed(data) == data


ALPHABET = st.sampled_from(
    [b"s", b"se", b"cret", b"secret", b"glpat-", b"A", b" ", b"?", b"private_token=", b"\xff"]
)


@given(st.lists(ALPHABET, max_size=40), st.lists(st.integers(0, 200), max_size=8))
def test_the_result_does_not_depend_on_where_the_stream_is_cut(words: list[bytes], cuts: list[int]) -> None:
    data = b"".join(words)
    phrases = ["secret", "secretA", "etse", "Asecr"]
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(edges)]
    whole = masked([data], phrases)
    assert masked(pieces, phrases) == whole
    assert masked([bytes([c]) for c in data], phrases) == whole
    assert b"secret" not in whole


@given(st.binary(max_size=300), st.text("abcdefgh ", min_size=1, max_size=12))
def test_no_secret_ever_comes_out(data: bytes, secret: str) -> None:
    planted = data + secret.encode() + data
    assert secret.encode() not in masked([planted[:7], planted[7:]], [secret]).replace(b"[MASKED]", b"\0")
