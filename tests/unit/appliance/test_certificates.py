"""A user's certificate is refused before nginx would, with what would do; ours are what openssl takes."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nautilus.appliance.certificates import (
    CA_LIFE,
    SERVER_LIFE,
    Checked,
    Issued,
    check_files,
    is_ca_usable,
    is_server_usable,
    issue_ca,
    issue_server,
)
from nautilus_gateway.testing.certificates import self_signed

NAMES = ["ml.example.org", "nautilus", "192.0.2.7", "fd00::1"]


def openssl(*argv: str) -> str:
    done = subprocess.run(["openssl", *argv], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def ca() -> Issued:
    return issue_ca("Nautilus CA of ml.example.org")


@pytest.fixture(scope="module")
def server(ca: Issued) -> Issued:
    return issue_server(ca, NAMES)


def check(folder: Path, *hosts: str, at: datetime | None = None, **names: str) -> Checked:
    return check_files(folder / names.get("certificate", "server.pem"), folder / "server.key", hosts, at)


@pytest.mark.parametrize(
    ("option", "name"), [("-verify_hostname", "ml.example.org"), ("-verify_ip", "fd00::1")]
)
def test_openssl_takes_the_own_cas_certificate_for_each_name(
    tmp_path: Path, ca: Issued, server: Issued, option: str, name: str
) -> None:
    (tmp_path / "ca.pem").write_bytes(ca.certificate)
    (tmp_path / "server.pem").write_bytes(server.certificate)
    strict = ["-x509_strict", "-purpose", "sslserver", "-CAfile", str(tmp_path / "ca.pem")]
    assert "OK" in openssl("verify", *strict, option, name, str(tmp_path / "server.pem"))


def test_the_authority_signs_no_further_authority(tmp_path: Path, ca: Issued) -> None:
    (tmp_path / "ca.pem").write_bytes(ca.certificate)
    text = openssl("x509", "-in", str(tmp_path / "ca.pem"), "-noout", "-text")
    assert "CA:TRUE, pathlen:0" in text and "Certificate Sign" in text


def test_certificates_of_ours_are_kept_while_they_serve(ca: Issued, server: Issued) -> None:
    assert is_ca_usable(ca)
    assert is_server_usable(server, ca, NAMES)


@pytest.mark.parametrize(
    "reason", ["another name", "another authority", "too old", "another key", "a broken file", "no file"]
)
def test_a_server_certificate_is_made_again_when_it_no_longer_serves(
    ca: Issued, server: Issued, reason: str
) -> None:
    now = datetime.now(UTC)
    other = issue_ca("another")
    usable = {
        "another name": lambda: is_server_usable(server, ca, [*NAMES, "new.example.org"]),
        "another authority": lambda: is_server_usable(server, other, NAMES),
        "too old": lambda: is_server_usable(server, ca, NAMES, now + SERVER_LIFE - timedelta(days=300)),
        "another key": lambda: is_server_usable(Issued(server.certificate, other.key), ca, NAMES),
        "a broken file": lambda: is_server_usable(Issued(server.certificate[:-40], server.key), ca, NAMES),
        "no file": lambda: is_server_usable(Issued(b"", b""), ca, NAMES),
    }
    assert not usable[reason]()


def test_an_authority_ends_before_what_it_signs_would(ca: Issued) -> None:
    now = datetime.now(UTC)
    assert not is_ca_usable(ca, now + CA_LIFE - SERVER_LIFE)
    assert not is_ca_usable(Issued(ca.certificate, issue_ca("another").key))


def test_a_good_certificate_has_nothing_said_about_it(tmp_path: Path) -> None:
    self_signed(tmp_path, "DNS:ml.example.org", "IP:192.0.2.7", days=90)
    assert check(tmp_path, "ml.example.org", "192.0.2.7") == Checked([], [])


@pytest.mark.parametrize(
    ("names", "host", "covered"),
    [
        ("DNS:*.example.org", "ml.example.org", True),
        ("DNS:*.example.org", "ML.example.org.", True),
        ("DNS:*.example.org", "example.org", False),
        ("DNS:*.example.org", "a.b.example.org", False),
        ("DNS:*.org", "example.org", False),
        ("IP:192.0.2.7", "192.0.2.7", True),
        ("IP:192.0.2.7", "192.0.2.8", False),
        ("DNS:192.0.2.7", "192.0.2.7", True),
    ],
)
def test_a_certificate_covers_the_names_that_clients_would_take(
    tmp_path: Path, names: str, host: str, covered: bool
) -> None:
    self_signed(tmp_path, names, days=90)
    problems = check(tmp_path, host).problems
    assert problems == [] if covered else host.rstrip(".") in problems[0]


def test_what_is_wrong_with_the_files_is_said_by_name(tmp_path: Path) -> None:
    self_signed(tmp_path, "DNS:ml.example.org", days=30)
    self_signed(tmp_path, "DNS:ml.example.org", days=30, stem="other")
    (tmp_path / "text.pem").write_text("hello\n")
    later = datetime.now(UTC) + timedelta(days=31)

    assert "cannot be read: No such file" in check(tmp_path, certificate="missing.pem").problems[0]
    assert "no certificate in PEM form" in check(tmp_path, certificate="text.pem").problems[0]
    assert "is not the key of" in check(tmp_path, certificate="other.pem").problems[0]
    assert "not for git.example.org" in check(tmp_path, "git.example.org").problems[0]
    assert "expired on" in check(tmp_path, at=later).problems[0]
    assert "look at the clock" in check(tmp_path, at=later - timedelta(days=60)).problems[0]
    assert "expires on" in check(tmp_path, at=later - timedelta(days=5)).warnings[0]


def test_an_encrypted_or_broken_key_is_refused(tmp_path: Path) -> None:
    self_signed(tmp_path, "DNS:ml.example.org", days=30)
    plain = tmp_path / "server.key"
    openssl("pkey", "-in", str(plain), "-aes256", "-passout", "pass:secret", "-out", str(tmp_path / "locked"))
    (tmp_path / "locked").replace(plain)
    assert "is encrypted" in check(tmp_path).problems[0]
    plain.write_text("no key")
    assert "no private key in PEM form" in check(tmp_path).problems[0]


def test_a_chain_out_of_order_is_warned_of(tmp_path: Path, ca: Issued, server: Issued) -> None:
    (tmp_path / "server.pem").write_bytes(server.certificate + issue_ca("another").certificate)
    (tmp_path / "server.key").write_bytes(server.key)
    found = check(tmp_path, "ml.example.org")
    assert found.problems == [] and "in order" in found.warnings[0]


def test_names_of_a_certificate_without_any(tmp_path: Path) -> None:
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-days", "30",
            "-keyout", str(tmp_path / "server.key"), "-out", str(tmp_path / "server.pem"))  # fmt: skip
    assert "is for no name" in check(tmp_path, "x").problems[0]
