"""What a job may write into NAUTILUS_INPUTS, and what is refused with the reason."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nautilus_runner.data.outbound import is_own
from nautilus_runner.data.wishes import Input, parse_inputs, without_secrets
from nautilus_runner.errors import JobMisconfigured

HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("https://h/a/b.csv", (Input("https://h/a/b.csv", "b.csv"),)),
        ("# none\n\nhttps://h/s.tar.gz unpack\n", (Input("https://h/s.tar.gz", "s", is_unpacked=True),)),
        (f"s3://b/k data/k sha256={HASH}", (Input("s3://b/k", "data/k", HASH),)),
        (
            '["https://h/a", {"url": "https://h/b", "path": "x/./b"}]',
            (Input("https://h/a", "a"), Input("https://h/b", "x/b")),
        ),
        (
            json.dumps({"url": "https://h/a", "sha256": f"sha256:{HASH.upper()}"}),
            (Input("https://h/a", "a", HASH),),
        ),
        ('[[inputs]]\nurl = "runs:/r/m.bin"\npath = "m"', (Input("runs:/r/m.bin", "m"),)),
        ("/api/v4/jobs/1/artifacts model.zip", (Input("/api/v4/jobs/1/artifacts", "model.zip"),)),
    ],
)
def test_all_forms_say_the_same(text: str, expected: tuple[Input, ...]) -> None:
    assert parse_inputs(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ftp://h/a", "use one of"),
        ("file:///etc/passwd", "use one of"),
        ("https://h/a ../a", "not a path below"),
        ("https://h/a /etc/a", "not a path below"),
        ("https://h/a .git/hooks/post-checkout", "not a path below"),
        ("https://h/", "not a path below"),
        ("https://h/a sha256=abc", "64 hexadecimal digits"),
        ("https://h/a x y", "one word too many"),
        ("https://h/a d\nhttps://h/b d/b", "two inputs want 'd'"),
        ("https://h/a\nhttps://g/a", "two inputs want 'a'"),
        ('{"url": "https://h/a", "when": "now"}', "unknown key 'when'"),
        ('{"url": "https://h/a", "headers": {"Host": "x"}}', "can't be sent"),
        ('{"url": "https://h/a", "headers": {"X": "a\\r\\nY: b"}}', "can't be sent"),
        ('{"path": "x"}', "an object with a url"),
        ("{", "neither JSON, TOML nor lines"),
        ("[[inputs", "neither JSON, TOML nor lines"),
        ("[" * 100_000, "neither JSON, TOML nor lines"),
        (json.dumps([f"https://h/{n}" for n in range(257)]), "more than 256"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(JobMisconfigured, match="NAUTILUS_INPUTS") as refused:
        parse_inputs(text)
    assert reason in str(refused.value)


def test_what_is_shown_of_an_address_holds_no_secret() -> None:
    assert without_secrets("https://user:hunter2@h:8/a?token=hunter2#x") == "https://h:8/a"


@given(st.text(max_size=300))
def test_any_text_is_inputs_inside_the_project_or_an_error_of_the_job(text: str) -> None:
    try:
        found = parse_inputs(text)
    except JobMisconfigured:
        return
    for wanted in found:
        parts = wanted.path.split("/")
        assert wanted.path and not wanted.path.startswith("/") and ".." not in parts and parts[0] != ".git"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.1",
        "::1",
        "0.0.0.0",
        "::",
        "169.254.169.254",
        "fe80::1%lo",
        "::ffff:127.0.0.1",
        "224.0.0.1",
    ],
)
def test_addresses_of_this_machine_are_known_in_every_writing(address: str) -> None:
    assert is_own(address)


@pytest.mark.parametrize("address", ["192.0.2.7", "10.255.254.253", "2001:db8::7"])
def test_addresses_of_others_are_not_ours(address: str) -> None:
    assert not is_own(address)
