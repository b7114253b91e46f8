"""A Dockerfile, read strictly and written anew: what the daemon builds is what was checked here.

The daemon is more than a job: it fetches `ADD http://…` from its own network and pulls what `FROM` names. So addresses
in ADD are refused, and the images that are needed are known, and had, before. Each instruction is written on one
line, without comments and directives; so nothing of a file is read one way here and another way there. Pure.
Source: Docker's reference of the Dockerfile, as its classic builder reads it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from nautilus_runner.errors import ImageBuildFailed

_DIRECTIVE = re.compile(r"^\s*#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.*?)\s*$")
_INSTRUCTION = re.compile(r"^\s*([A-Za-z]+)(?:\s+(.*))?$", re.DOTALL)
_KNOWN = frozenset(
    (
        *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL"),
        *("MAINTAINER", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
    )
)
_HEREDOC = re.compile(r"<<-?[\"']?[A-Za-z_]")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?:(:?[-+])([^{}]*))?\})")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")
_TRICKY = re.compile(r"[$\\\"'`]")
_MOST_LINES = 10_000


@dataclass(frozen=True, slots=True)
class Instruction:
    """`line`: where it begins, from 1."""

    keyword: str
    arguments: str
    line: int

    def text(self) -> str:
        return f"{self.keyword} {self.arguments}"


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """`ignored`: directives that were there and mean nothing here."""

    instructions: tuple[Instruction, ...]
    escape: str = "\\"
    ignored: tuple[str, ...] = ()

    def text(self) -> str:
        head = "# escape=`\n" if self.escape == "`" else ""
        return head + "".join(f"{instruction.text()}\n" for instruction in self.instructions)


def parse(text: str) -> Dockerfile:
    """Raises ImageBuildFailed, with the line, where something is wrong or is not done here."""
    lines = text.removeprefix("\ufeff").splitlines()
    if len(lines) > _MOST_LINES:
        raise ImageBuildFailed(f"the Dockerfile has more than {_MOST_LINES} lines")
    directives = _directives(lines)
    escape = directives.get("escape", "\\")
    if escape not in ("\\", "`"):
        raise ImageBuildFailed(f"Dockerfile: escape={escape!r} must be \\ or `")
    found = tuple(_instructions(lines, escape))
    if not any(instruction.keyword == "FROM" for instruction in found):
        raise ImageBuildFailed("the Dockerfile has no FROM")
    for instruction in found:
        check(instruction)
    ignored = tuple(f"{name}={value}" for name, value in directives.items() if name != "escape")
    return Dockerfile(found, escape, ignored)


def resolved(dockerfile: Dockerfile, arguments: Mapping[str, str]) -> tuple[Dockerfile, tuple[str, ...]]:
    """FROM with the images' names filled in, and which images those are. Raises ImageBuildFailed."""
    values: dict[str, str] = {}
    stages: set[str] = set()
    images: list[str] = []
    written: list[Instruction] = []
    for read in dockerfile.instructions:
        instruction = read
        if instruction.keyword == "ARG" and not stages and not images:
            values.update(_defaults(instruction, arguments, values))
        elif instruction.keyword == "FROM":
            instruction, image, name = _from(instruction, values)
            if image.lower() not in stages and image != "scratch":
                images.append(image)
            stages |= {name.lower() or f"stage {len(stages)}", image if image == "scratch" else ""}
        elif instruction.keyword == "COPY":
            other = _copied_from(instruction)
            if other and other.lower() not in stages and not other.isdigit():
                images.append(other)
        written.append(instruction)
    return replace(dockerfile, instructions=tuple(written)), tuple(dict.fromkeys(images))


def check_triggers(image: str, triggers: Iterable[str]) -> None:
    """What an image has its children do (ONBUILD) is checked as if it was written there. Raises ImageBuildFailed."""
    for trigger in triggers:
        try:
            for instruction in _instructions([trigger], "\\"):
                check(instruction)
        except ImageBuildFailed as error:
            raise ImageBuildFailed(
                f"the image {image} brings an instruction that is not done here: {error}"
            ) from error


def check(instruction: Instruction) -> None:
    """Raises ImageBuildFailed for what the daemon must not, or can't, do for a job."""
    keyword, arguments = instruction.keyword, instruction.arguments
    where = f"Dockerfile, line {instruction.line}"
    if keyword not in _KNOWN:
        raise ImageBuildFailed(f"{where}: unknown instruction {keyword}")
    if keyword in ("RUN", "COPY", "ADD") and _HEREDOC.search(arguments):
        raise ImageBuildFailed(
            f"{where}: here-documents need BuildKit, which is not used here: put it into a file"
        )
    if keyword == "RUN" and re.match(r"\s*--(mount|network|security)\b", arguments):
        raise ImageBuildFailed(
            f"{where}: RUN {arguments.split('=')[0]} needs BuildKit, which is not used here"
        )
    if keyword == "ONBUILD":
        [*nested] = _instructions([arguments], "\\")
        for trigger in nested:
            check(replace(trigger, line=instruction.line))
    if keyword == "ADD":
        for source in _sources(arguments, where):
            if _TRICKY.search(source) or "://" in source or source.startswith(("git@", "github.com/")):
                raise ImageBuildFailed(
                    f"{where}: ADD {source}: only plain paths of the repository are added; fetch addresses with "
                    "RUN (curl, pip), which has the job's network"
                )


def _directives(lines: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        match = _DIRECTIVE.match(line)
        if match is None or match.group(1).lower() not in ("escape", "syntax", "check"):
            break
        found.setdefault(match.group(1).lower(), match.group(2))
    return found


def _instructions(lines: Sequence[str], escape: str) -> Iterable[Instruction]:
    """Each on one line; comments and empty lines go, also between the lines of one instruction."""
    continued = re.compile(rf"{re.escape(escape)}[ \t]*$")
    text, begun = "", 0
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        begun = begun or number
        text += continued.sub("", line)
        if continued.search(line):
            continue
        yield _instruction(text, begun, escape)
        text, begun = "", 0
    if text.strip():
        yield _instruction(text, begun, escape)


def _instruction(text: str, line: int, escape: str) -> Instruction:
    match = _INSTRUCTION.match(text)
    if match is None:
        raise ImageBuildFailed(f"Dockerfile, line {line}: no instruction: {text.strip()[:60]!r}")
    arguments = (match.group(2) or "").strip().rstrip(escape).rstrip()
    if any(ord(char) < 32 and char != "\t" for char in arguments):
        raise ImageBuildFailed(f"Dockerfile, line {line}: a control character")
    return Instruction(match.group(1).upper(), arguments, line)


def _sources(arguments: str, where: str) -> list[str]:
    """ADD's, without its flags and its target."""
    while match := re.match(r"--\S+\s+", arguments):
        arguments = arguments[match.end() :]
    if arguments.startswith("["):
        try:
            words = json.loads(arguments)
        except ValueError as error:
            raise ImageBuildFailed(f"{where}: {arguments[:60]} is not a JSON list") from error
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ImageBuildFailed(f"{where}: {arguments[:60]} is not a JSON list of texts")
        return [str(word) for word in words[:-1]]
    return arguments.split()[:-1]


def _defaults(
    instruction: Instruction, given: Mapping[str, str], values: Mapping[str, str]
) -> dict[str, str]:
    """What an ARG before the first FROM is worth there."""
    found = {}
    for word in instruction.arguments.split():
        name, _, default = word.partition("=")
        found[name] = given.get(name, _expanded(default.strip("\"'"), values))
    return found


def _from(instruction: Instruction, values: Mapping[str, str]) -> tuple[Instruction, str, str]:
    """The instruction with its image's name filled in; that name; the stage's."""
    words = [_expanded(word, values) for word in instruction.arguments.split()]
    flags = [word for word in words if word.startswith("--")]
    rest = words[len(flags) :]
    where = f"Dockerfile, line {instruction.line}"
    if (
        len(rest) not in (1, 3)
        or (len(rest) == 3 and rest[1].upper() != "AS")
        or words[: len(flags)] != flags
    ):
        raise ImageBuildFailed(f"{where}: FROM {instruction.arguments}: it must be FROM image [AS name]")
    if not _IMAGE.fullmatch(rest[0]):
        raise ImageBuildFailed(f"{where}: FROM {instruction.arguments}: {rest[0]!r} is no image's name")
    return replace(instruction, arguments=" ".join(words)), rest[0], rest[2] if len(rest) == 3 else ""


def _copied_from(instruction: Instruction) -> str:
    match = re.match(r"(?:--\S+\s+)*?--from=(\S+)", instruction.arguments)
    if match is None:
        return ""
    if not _IMAGE.fullmatch(match.group(1)):
        raise ImageBuildFailed(f"Dockerfile, line {instruction.line}: {match.group(1)!r} is no image's name")
    return match.group(1)


def _expanded(text: str, values: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name, operator, word = match.group(1) or match.group(2), match.group(3) or "", match.group(4) or ""
        known = values.get(name)
        is_set = bool(known) if operator.startswith(":") else known is not None
        if operator.endswith("+"):
            return word if is_set else ""
        return known or "" if is_set or not operator else word

    return _VARIABLE.sub(value, text)
