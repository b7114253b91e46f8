"""Commands of the documentation, as they stand there: tests run what readers copy."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from nautilus.appliance.layout import PROJECT_ROOT


def console_commands(document: str) -> list[list[str]]:
    """The words of each command after a `$ ` in the document's console blocks; continued lines are one command."""
    text = (PROJECT_ROOT / document).read_text()
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.M | re.S)
    lines = (line for block in blocks for line in block.replace("\\\n", " ").splitlines())
    return [shlex.split(line.removeprefix("$ "), comments=True) for line in lines if line.startswith("$ ")]


def console_command(document: str, *words: str) -> list[str]:
    """The one command of the document that has all these words."""
    [found] = [command for command in console_commands(document) if set(words) <= set(command)]
    return found


def elsewhere(
    argv: Iterable[str], prefix: str, address: str, image: str, folder: Path | None = None
) -> list[str]:
    """A documented `docker run` where others test too: names with a prefix, ports on an address of their own.

    Folders of the host move below `folder`. Without the word "docker", with another image at its end.
    """
    words = list(argv)
    changed = [
        _elsewhere(before, word, prefix, address, folder)
        for before, word in zip(["", *words], words, strict=False)
    ]
    return [*changed[1:-1], image]


def _elsewhere(option: str, word: str, prefix: str, address: str, folder: Path | None) -> str:
    """One word after that option."""
    match option:
        case "--publish":
            return f"{address}:{word}"
        case "--name" | "--net" | "--network":
            return f"{prefix}-{word.strip('$').lower()}"
        case "--volume" if not word.startswith("/"):
            return f"{prefix}-{word}"
        case "--volume" if folder is not None and not word.startswith("/var/run/"):
            host, _, inside = word.partition(":")
            return f"{folder / Path(host).name}:{inside}"
    return word
