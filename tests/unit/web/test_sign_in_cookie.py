"""The cookie of a sign-in that is under way, and the encryption of a session's tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from nautilus.signin.pending import LIFETIME_S, PendingSignIn, cookie_name, local_path
from nautilus.signin.sealing import seal, unseal

KEY = b"key"


def test_it_is_read_back_the_same() -> None:
    pending = PendingSignIn.begin("/experiments?a=1")
    assert PendingSignIn.open(pending.seal(KEY), KEY) == pending


def test_it_holds_for_ten_minutes() -> None:
    pending = PendingSignIn.begin("/")
    assert PendingSignIn.open(pending.seal(KEY), KEY, now_s=pending.made_at + LIFETIME_S) is not None
    assert PendingSignIn.open(pending.seal(KEY), KEY, now_s=pending.made_at + LIFETIME_S + 1) is None


def test_another_key_does_not_open_it() -> None:
    assert PendingSignIn.open(PendingSignIn.begin("/").seal(KEY), b"other") is None


@given(st.text(max_size=100))
def test_what_we_did_not_seal_is_refused(text: str) -> None:
    assert PendingSignIn.open(text, KEY) is None


def test_the_challenge_is_that_of_the_rfc() -> None:
    pending = PendingSignIn("s", "n", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "/", 0)
    assert pending.challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


@pytest.mark.parametrize("state", ["", "short", "a" * 101, "a" * 30 + ";", "é" * 30, "a\r\nb" * 10])
def test_only_a_state_of_ours_names_a_cookie(state: str) -> None:
    assert cookie_name(state) is None


@given(st.text(max_size=60))
def test_a_next_path_is_never_another_origin(text: str) -> None:
    path = local_path(text)
    assert path.startswith("/") and not path.startswith(("//", "/\\")) and not set(path) & set("\r\n\t\\")


def test_tokens_open_only_with_both_keys_and_unchanged() -> None:
    sealed = seal(SecretStr("glpat-secret"), "cookie", KEY)
    assert b"glpat" not in sealed
    opened = unseal(sealed, "cookie", KEY)
    assert opened is not None and opened.get_secret_value() == "glpat-secret"
    assert unseal(sealed, "other", KEY) is None and unseal(sealed, "cookie", b"other") is None
    assert (
        unseal(sealed[:-1] + bytes([sealed[-1] ^ 1]), "cookie", KEY) is None
        and unseal(b"", "cookie", KEY) is None
    )
