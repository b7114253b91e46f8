"""`nautilus user key …` against a running forge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from nautilus.cli import ssh_keys
from nautilus.cli.output import CommandError
from nautilus.gitlab.provisioning import Administration
from nautilus_forge.testing.server import ADMIN_TOKEN, RunningForge, running_forge

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ6FxkAq8LJsZtYAWKDKYMEwdqIBz0qNWnKpmNd4WVDK"


@pytest.fixture
def forge(forge_database_url: str, tmp_path: Path) -> Iterator[RunningForge]:
    with running_forge(forge_database_url, tmp_path) as running:
        yield running


@pytest.fixture
def run(forge: RunningForge, monkeypatch: pytest.MonkeyPatch) -> Any:
    @contextmanager
    def administration() -> Iterator[tuple[Administration, None, None]]:
        yield Administration(forge.url, ADMIN_TOKEN), None, None

    monkeypatch.setattr(ssh_keys, "administration", administration)

    def command(*argv: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(ssh_keys.app, argv, input=stdin)

    return command


def test_a_key_is_added_listed_and_removed(run: Any, tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text(f"# mine\n{KEY} ann@laptop\n")
    added = json.loads(run("add", str(tmp_path / "key.pub"), "--expires", "2099-01-02", "--json").stdout)
    assert (added["title"], added["type"], added["expires_at"]) == (
        "ann@laptop",
        "ssh-ed25519",
        "2099-01-02T00:00:00.000Z",
    )
    listed = json.loads(run("list", "--json").stdout)
    assert [key["fingerprint"] for key in listed] == [added["fingerprint"]]
    assert added["fingerprint"] in run("list").stdout
    assert run("remove", str(added["id"])).exit_code == 0
    assert json.loads(run("list", "--json").stdout) == []


def test_a_key_comes_by_standard_input_and_gets_a_title(run: Any) -> None:
    assert (
        json.loads(run("add", "-", "--title", "desk", "--json", stdin=f"{KEY}\n").stdout)["title"] == "desk"
    )


def test_a_key_without_comment_is_called_by_its_type(run: Any) -> None:
    assert json.loads(run("add", "-", "--json", stdin=KEY).stdout)["title"] == "ssh-ed25519"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-----BEGIN OPENSSH PRIVATE KEY-----\ncanary\n", "is the private key"),
        ("", "holds 0 lines"),
        (f"{KEY}\n{KEY}\n", "holds 2 lines"),
    ],
)
def test_what_is_no_public_key_is_not_sent(run: Any, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "key").write_text(text)
    failed = run("add", str(tmp_path / "key"))
    assert isinstance(failed.exception, CommandError)
    assert words in str(failed.exception) and "canary" not in str(failed.exception)
    assert failed.exception.exit_code == 2


def test_files_users_and_keys_that_are_not_there_are_named(run: Any, tmp_path: Path) -> None:
    for argv, words in (
        (("add", str(tmp_path / "none.pub")), "none.pub cannot be read"),
        (("list", "--user", "nobody"), "no user 'nobody'"),
        (("remove", "99"), "root has no key 99"),
    ):
        assert words in str(run(*argv).exception)
