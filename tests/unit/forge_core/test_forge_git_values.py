"""Pure parts of the git layer: names, diffs, commits, argv."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nautilus_forge.git import archives, diffs
from nautilus_forge.git.command import Git, git_environment
from nautilus_forge.git.commits import Commit, with_milliseconds
from nautilus_forge.git.refs import is_valid_name
from nautilus_forge.git.revisions import is_speakable
from nautilus_forge.git.store import hashed_path
from nautilus_forge.internal.git_access import GitRequest, parse


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab/.@{~^: -_lock\\*[?\x7f\n", min_size=1, max_size=12))
def test_names_that_we_allow_are_names_that_git_allows(name: str) -> None:
    if is_valid_name(name):
        checked = subprocess.run(
            [shutil.which("git") or "git", "check-ref-format", f"refs/heads/{name}"], check=False
        )
        assert checked.returncode == 0


@pytest.mark.parametrize("name", ["main", "feature/x", "nautilus/run-1", "v1.0", "β", "a@b", "#12"])
def test_usual_names_are_allowed(name: str) -> None:
    assert is_valid_name(name)


@pytest.mark.parametrize(
    "name", ["", "-x", "HEAD", "a..b", "a b", "a~1", "x.lock", "/a", "a/", "a//b", "@", ".a", "a/.b"]
)
def test_others_are_not(name: str) -> None:
    assert not is_valid_name(name)


@pytest.mark.parametrize(
    "revision", ["--all", "-x", ":/text", "a..b", "main@{1}", "a b", "", "main^{/x}", "a\nb"]
)
def test_revisions_that_never_reach_git(revision: str) -> None:
    assert not is_speakable(revision)


def test_hashed_storage_is_gitlabs() -> None:
    assert hashed_path(1) == (
        "@hashed/6b/86/6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b.git"
    )


def test_git_runs_in_an_environment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    monkeypatch.setenv("GIT_SSH_COMMAND", "evil")
    env = git_environment()
    assert "GIT_DIR" not in env
    assert "GIT_SSH_COMMAND" not in env
    assert env["GIT_CONFIG_GLOBAL"] == "/dev/null"


def test_argv_names_the_repository_first() -> None:
    assert Git(Path("/r.git")).argv("log")[-2:] == ("--git-dir=/r.git", "log")


@pytest.mark.parametrize(
    ("date", "shown"),
    [
        ("2025-11-21T13:47:00+01:00", "2025-11-21T13:47:00.000+01:00"),
        ("2025-11-21T13:47:00Z", "2025-11-21T13:47:00.000+00:00"),
    ],
)
def test_dates_carry_milliseconds(date: str, shown: str) -> None:
    assert with_milliseconds(date) == shown


@pytest.mark.parametrize(
    ("message", "title"),
    [
        ("one\n\ntwo", "one"),
        ("", "--no commit message"),
        ("x" * 100, "x" * 100),
        ("x" * 101, "x" * 80 + "..."),
    ],
)
def test_titles_are_cut_as_gitlab_cuts_them(message: str, title: str) -> None:
    assert Commit("a", (), "", "", "", "", "", "", (), message).title == title


def test_raw_diffs_are_parsed() -> None:
    zero, one = b"0" * 40, b"1" * 40
    raw = (
        b":000000 100644 " + zero + b" " + one + b" A\0new\0"
        b":100644 100755 " + one + b" " + one + b" R090\0old name\0new name\0"
    )
    assert list(diffs.parse_raw(raw)) == [
        ("new", "new", "000000", "100644", "A"),
        ("old name", "new name", "100644", "100755", "R"),
    ]


@pytest.mark.parametrize(
    ("extension", "name"), [("zip", "zip"), ("tar.gz", "tar.gz"), ("TGZ", "tar.gz"), ("rar", None)]
)
def test_archive_formats(extension: str, name: str | None) -> None:
    found = archives.format_of(extension)
    assert (found.name if found else None) == name


def test_any_file_name_survives_a_header() -> None:
    assert archives.disposition("attachment", 'ä".txt') == (
        "attachment; filename=\"__.txt\"; filename*=UTF-8''%C3%A4%22.txt"
    )


@pytest.mark.parametrize(
    ("uri", "parsed"),
    [
        ("/a/b.git/info/refs?service=git-upload-pack", GitRequest("a/b", False)),
        ("/a/b.git/info/refs?service=git-receive-pack", GitRequest("a/b", True)),
        ("/g/s/b.git/git-receive-pack", GitRequest("g/s/b", True)),
        ("/a/b.git/git-upload-pack?service=git-receive-pack", GitRequest("a/b", False)),
        ("/a/b.git/info/refs", None),
        ("/a/b/info/refs?service=git-upload-pack", None),
        ("/a/b.git/objects/info/packs", None),
    ],
)
def test_git_requests_are_recognised(uri: str, parsed: GitRequest | None) -> None:
    assert parse(uri) == parsed
