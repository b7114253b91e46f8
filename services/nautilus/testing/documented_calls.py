"""Calls of our programs that the documentation shows, and whether the programs take them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_PROGRAM = re.compile(
    r"""(?:^|[|;&(]\s*|\$\(|["']|\bsudo\s+|(?:^|\s)[A-Z_]+=\S+\s+|\bexec\s+(?:-\S+\s+)*[^-\s]\S*\s+)"""
    r"""(?P<path>(?:[~./\w-]*/)?)(?P<name>nautilus|nautilus-runner)(?=\s+(?P<rest>.*)|$)"""
)
_END = re.compile(r"\s(?:\||\|\||&&|&|;|[12]?>|<)(?=\s|$)|[;)]\s*$|;\s|\s#\s")
_FENCE = re.compile(r"^\s*```(\w*)\s*$")


@dataclass(frozen=True)
class Call:
    """`words`: what follows the program's name, up to the end of its command."""

    line: int
    program: str
    words: tuple[str, ...]


def calls_of(text: str) -> Iterator[Call]:
    """Of a Markdown page: in its blocks and in what stands in `backquotes`."""
    for number, code, is_command in _code(text):
        for found in _PROGRAM.finditer(code):
            if is_command or found["path"]:
                words = _words(found["rest"] or "")
                yield Call(number, found["name"], words)


def complaint(call: Call, programs: Mapping[str, Any]) -> str:
    """What the program does not have of it; "" where it takes the call. `programs`: click commands by name."""
    command, options = programs[call.program], {"--help"}
    words = [*call.words]
    while words:
        options |= {name for parameter in command.params for name in _names(parameter)}
        word = words.pop(0)
        if (
            word in ("--", "…", "...")
            or word.endswith("…")
            or command.context_settings.get("allow_extra_args")
        ):
            return ""
        if word.startswith("-") and word != "-":
            name, equals, _ = word.partition("=")
            if name not in options:
                return f"{command.name} has no option {name}"
            if not equals and _takes_a_value(command, name) and words:
                words.pop(0)
        elif hasattr(command, "commands"):
            if word.isupper():
                return ""
            if word not in command.commands:
                return f"{command.name} has no command {word}"
            command = command.commands[word]
    return ""


def _code(text: str) -> Iterator[tuple[int, str, bool]]:
    """Line, code, and whether it is a command by its place (the output of one also stands in blocks)."""
    prose: list[str] = []
    language, joined, started = None, "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if fence := _FENCE.match(line):
            language = fence[1] if language is None else None
            prose.append("")
            continue
        if language is None:
            prose.append(line)
            continue
        prose.append("")
        started = started if joined else number
        joined += line.removesuffix("\\")
        if line.endswith("\\"):
            continue
        is_command = joined.startswith("$ ") or language in ("sh", "bash", "")
        yield started, joined.removeprefix("$ ").strip(), is_command
        joined = ""
    whole = "\n".join(prose)
    for found in re.finditer(r"`([^`]+)`", whole):
        yield whole.count("\n", 0, found.start()) + 1, " ".join(found[1].split()).replace("\\|", "|"), True


def _words(rest: str) -> tuple[str, ...]:
    end = _END.search(rest)
    rest = rest[: end.start()] if end else rest
    plain = re.sub(r"[\[\]]", "", rest)
    try:
        return tuple(shlex.split(plain))
    except ValueError:  # a quote that is closed outside
        return tuple(plain.split())


def _names(parameter: Any) -> list[str]:
    return [name for name in (*parameter.opts, *parameter.secondary_opts) if name.startswith("-")]


def _takes_a_value(command: Any, name: str) -> bool:
    found = next((p for p in command.params if name in _names(p)), None)
    return found is not None and not getattr(found, "is_flag", False) and not getattr(found, "count", False)
