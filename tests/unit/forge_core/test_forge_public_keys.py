"""Public keys are read as OpenSSH reads them, and nothing else is taken for one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nautilus_forge.keys.public_key import NotAPublicKey, parse, shown_md5, shown_sha256

KINDS = [
    ("ed25519", 256, "ed25519"),
    ("ecdsa", 256, "ecdsa"),
    ("ecdsa", 384, "ecdsa"),
    ("ecdsa", 521, "ecdsa"),
    ("rsa", 2048, "rsa"),
    ("rsa", 3072, "rsa"),
]
ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ6FxkAq8LJsZtYAWKDKYMEwdqIBz0qNWnKpmNd4WVDK"


@pytest.mark.parametrize(("kind", "bits", "name"), KINDS)
def test_what_ssh_keygen_makes_is_understood(tmp_path: Path, kind: str, bits: int, name: str) -> None:
    path = tmp_path / "key"
    options = ("-t", kind, "-b", str(bits)) if kind != "ed25519" else ("-t", kind)
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-C", "me@here", *options, "-f", path], check=True)
    text = (tmp_path / "key.pub").read_text()
    key = parse(text)
    assert (key.kind, key.bits, key.comment, key.text) == (name, bits, "me@here", text.strip())
    for digest, shown in (("sha256", shown_sha256(key.sha256)), ("md5", "MD5:" + shown_md5(key.md5))):
        told = subprocess.run(
            ["ssh-keygen", "-l", "-E", digest, "-f", tmp_path / "key.pub"], capture_output=True, text=True
        )
        assert told.stdout.split()[1] == shown


def test_keys_in_hardware_are_understood() -> None:
    """Source: OpenSSH's PROTOCOL.u2f."""
    ed25519 = (
        "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIGu7TB2HNyXl7jQv8C7xtrYV4rTVvo"
        "hsgy0r7xFpaKzUAAAABHNzaDo="
    )
    assert (parse(ed25519).kind, parse(ed25519).bits) == ("ed25519_sk", 256)


def test_the_comment_is_one_word_and_blanks_do_not_matter() -> None:
    assert parse(f"  {ED25519}   one two\n").text == f"{ED25519} one"


def test_a_key_that_was_wrapped_is_put_together() -> None:
    algorithm, encoded = ED25519.split()
    wrapped = f"{algorithm} {encoded[:20]}\r\n{encoded[20:50]}\n{encoded[50:]}\nme"
    assert parse(wrapped).text == f"{ED25519} me"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 !!!!",
        ED25519[:-4],
        ED25519 + "AAAA",
        ED25519.replace("ssh-ed25519 ", "ssh-rsa "),
        f"no-pty {ED25519}",
        ED25519.upper(),
        "ssh-ed25519-cert-v01@openssh.com AAAA",
    ],
)
def test_anything_else_is_no_key(text: str) -> None:
    with pytest.raises(NotAPublicKey):
        parse(text)


@given(st.text() | st.binary().map(lambda raw: "ssh-rsa " + raw.hex()))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        key = parse(text)
    except NotAPublicKey:
        return
    assert parse(key.text) == key
