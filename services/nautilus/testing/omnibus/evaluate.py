"""Reads gitlab.rb: assignments of literals, and `from_file`. As strict as Omnibus with names that it does not know.

Ruby reads more than this; a test gives what we write to a real Ruby too. Source of the strictness: omnibus-gitlab
files/gitlab-cookbooks/package/libraries/settings_dsl.rb (`config_strict_mode true` while a file is read).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from nautilus.appliance.omnibus.known_keys import known_keys

_TOKEN = re.compile(
    r"""(?P<space>[ \t]+|\#[^\n]*)|(?P<end>\n+)|(?P<text>'(?:[^'\\]|\\.)*')|(?P<number>-?\d+)"""
    r"""|(?P<word>[a-z][a-z0-9_]*)|(?P<sign>=>|[\[\]{}=,])""",
    re.DOTALL,
)
_WORDS: dict[str, object] = {"nil": None, "true": True, "false": False}


class RubyError(Exception):
    """The file is not what the package would take; the message names the place."""


def evaluate(path: Path) -> dict[str, Any]:
    """Section → key → … → value, the last assignment wins. Raises RubyError."""
    found: dict[str, Any] = {}
    _Reader(path, found, {name.split(".")[0] for name in known_keys()}).file()
    return found


class _Reader:
    def __init__(self, path: Path, found: dict[str, Any], sections: set[str]) -> None:
        self._path, self._found, self._sections = path, found, sections
        self._tokens = list(_tokens(path))
        self._at = 0

    def file(self) -> None:
        while self._at < len(self._tokens):
            if not self._take("end"):
                self._statement()

    def _statement(self) -> None:
        name = self._expect("word")
        keys: list[str] = []
        while self._take("sign", "["):
            keys.append(_text(self._expect("text")))
            self._expect("sign", "]")
        if keys:
            self._expect("sign", "=")
        value = self._value()
        if self._at < len(self._tokens):
            self._expect("end")
        if name == "from_file":
            _Reader(Path(str(value)), self._found, self._sections).file()
            return
        if name not in self._sections:
            raise RubyError(f"{self._path}: Reading unsupported config value {name}.")
        _assign(self._found, [name, *keys], value)

    def _value(self) -> object:
        kind, text = self._next()
        match kind, text:
            case "text", _:
                return _text(text)
            case "number", _:
                return int(text)
            case "word", ("nil" | "true" | "false"):
                return _WORDS[text]
            case "sign", "[":
                return self._items("]", self._value)
            case "sign", "{":
                return dict(self._items("}", self._pair))
        raise RubyError(f"{self._path}: not a literal: {text!r}")

    def _pair(self) -> tuple[str, object]:
        key = _text(self._expect("text"))
        self._expect("sign", "=>")
        return key, self._value()

    def _items(self, closing: str, read: Any) -> list[Any]:
        found: list[Any] = []
        while not self._take("sign", closing):
            if found:
                self._expect("sign", ",")
            found.append(read())
        return found

    def _take(self, kind: str, text: str | None = None) -> bool:
        if self._at >= len(self._tokens) or self._tokens[self._at][0] != kind:
            return False
        if text is not None and self._tokens[self._at][1] != text:
            return False
        self._at += 1
        return True

    def _expect(self, kind: str, text: str | None = None) -> str:
        if not self._take(kind, text):
            raise RubyError(f"{self._path}: syntax error, expected {text or kind}")
        return self._tokens[self._at - 1][1]

    def _next(self) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            raise RubyError(f"{self._path}: unexpected end of file")
        self._at += 1
        return self._tokens[self._at - 1]


def _tokens(path: Path) -> list[tuple[str, str]]:
    try:
        source = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RubyError(f"{path}: {error.strerror}") from error
    found, at = [], 0
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None:
            raise RubyError(f"{path}: syntax error at {source[at : at + 20]!r}")
        if match.lastgroup != "space":
            found.append((str(match.lastgroup), match.group()))
        at = match.end()
    return found


def _text(token: str) -> str:
    """A single-quoted string: `\\\\` and `\\'` are the only escapes, any other backslash is itself."""
    return re.sub(r"\\([\\'])", r"\1", token[1:-1])


def _assign(found: dict[str, Any], path: list[str], value: object) -> None:
    for key in path[:-1]:
        found = found.setdefault(key, {})
    found[path[-1]] = value
