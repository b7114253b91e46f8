"""What the forced command makes of the words that a client sends, without sshd."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nautilus_forge.git import shell


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("", []),
        ("   ", []),
        ("git-upload-pack 'root/digits.git'", ["git-upload-pack", "root/digits.git"]),
        ("git-upload-pack '/root/digits.git'", ["git-upload-pack", "/root/digits.git"]),
        ('git-upload-pack "root/digits.git"', ["git-upload-pack", "root/digits.git"]),
        ("git-receive-pack root/digits", ["git-receive-pack", "root/digits"]),
        ("git upload-pack 'a/b.git'", ["git-upload-pack", "a/b.git"]),
        ("git-upload-archive 'a/b.git'", ["git-upload-archive", "a/b.git"]),
        ("git-lfs-authenticate a/b.git download", ["git-lfs-authenticate", "a/b.git", "download"]),
        ("git-upload-pack 'a/$(id)'", ["git-upload-pack", "a/$(id)"]),
    ],
)
def test_commands_are_taken_apart(command: str, words: list[str]) -> None:
    assert shell.parsed(command) == words


@pytest.mark.parametrize(
    "command",
    [
        "ls",
        "git-upload-pack 'a/b",
        "git-upload-pack 'a/b'x",
        "git-upload-pack 'a'\\''b'",
        "git-upload-pack a\\ b",
        "git-upload-pack ''",
        "git-upload-pack a\nid",
        "git-upload-pack a\tid",
        "git-upload-pack " + "x" * 5000,
        "git-upload-pack \udcff",
    ],
)
def test_what_a_shell_might_read_otherwise_is_refused(command: str) -> None:
    with pytest.raises(shell.Refused, match="Disallowed command"):
        shell.parsed(command)


@given(st.text())
def test_no_command_breaks_the_reader(command: str) -> None:
    try:
        words = shell.parsed(command)
    except shell.Refused:
        return
    assert all(word and not set(word) & set("'\"\\\n") for word in words)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("root/digits.git", "root/digits"),
        ("/root/digits.git", "root/digits"),
        ("root/digits", "root/digits"),
        ("a/b/c.git/", "a/b/c"),
    ],
)
def test_paths_are_the_project_s(text: str, path: str) -> None:
    assert shell.project_path(text) == path


@pytest.mark.parametrize("text", ["", "/", "a//b", "a/../b", "./a", "a/b c", "a/$b", "ü/b", "a/b\0"])
def test_paths_that_no_project_has(text: str) -> None:
    with pytest.raises(shell.Refused, match="could not be found"):
        shell.project_path(text)


@given(st.text(alphabet=st.characters(exclude_characters="\0"), min_size=1))
def test_words_pass_a_shell_unchanged(word: str) -> None:
    if any("\ud800" <= char <= "\udfff" for char in word):
        return
    done = subprocess.run(
        ["/bin/sh", "-c", f"printf %s {shell.quoted(word)}"], capture_output=True, check=True
    )
    assert done.stdout.decode() == word


def test_without_the_forge_it_says_so_in_gitlab_s_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "TRIES", 1)
    monkeypatch.setattr(shell, "WAIT_S", 0)
    with pytest.raises(shell.Refused, match="Internal API unreachable"):
        shell.serve(str(tmp_path / "none.sock"), "1", {"SSH_ORIGINAL_COMMAND": ""})


def test_it_needs_nothing_but_python_itself() -> None:
    """It is started for each connection: no site-packages, and none of the modules that take long to load."""
    slow = {"json", "re", "socket", "subprocess", "pathlib", "urllib", "http", "typing", "site"}
    code = (
        f"import sys; exec(compile(open({shell.__file__!r}).read(), 'shell', 'exec'), {{'__name__': 'shell'}}); "
        f"print(sorted(set(sys.modules) & {slow}))"
    )
    told = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, env=dict(os.environ)
    )
    assert told.stdout == "[]\n", told.stderr
