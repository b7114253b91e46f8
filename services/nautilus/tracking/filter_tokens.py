"""The words of MLflow's search language, read from left to right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from nautilus.tracking.errors import InvalidParameter

MAX_LENGTH = 100_000

_PATTERN = re.compile(
    r"""(?P<space>\s+)
      | (?P<string>'(?:''|\\'|[^'])*')
      | (?P<quoted>"[^"]*"|`[^`]*`)
      | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<word>\w[\w/\-]*)
      | (?P<operator><=|>=|!=|<>|==|=|<|>)
      | (?P<mark>[(),.])""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Token:
    kind: str
    text: str

    def is_word(self, word: str) -> bool:
        return self.kind == "word" and self.text.upper() == word


END = Token("end", "the end")
"""What follows the last token."""


class Cursor:
    """The tokens of one string, read from left to right."""

    def __init__(self, text: str, complaint: str) -> None:
        if len(text) > MAX_LENGTH:
            raise InvalidParameter(f"A filter has at most {MAX_LENGTH} characters.")
        self._complaint = complaint
        self._tokens = list(self._tokenize(text))
        self._next = 0

    def _tokenize(self, text: str) -> Iterator[Token]:
        position, follows_key = 0, False
        while position < len(text):
            match = _PATTERN.match(text, position)
            if match is None or match.lastgroup is None:
                raise self.error(f"Cannot read '{text[position : position + 20]}'.")
            kind, end = match.lastgroup, match.end()
            if kind == "number" and follows_key and text[position] == ".":
                kind, end = "mark", position + 1
            if kind != "space":
                yield Token(kind, text[position:end])
            follows_key = kind in ("word", "quoted", "number")
            position = end

    def peek(self, ahead: int = 0) -> Token:
        index = self._next + ahead
        return self._tokens[index] if index < len(self._tokens) else END

    def take(self) -> Token:
        token = self.peek()
        self._next += 1
        return token

    def error(self, reason: str) -> InvalidParameter:
        return InvalidParameter(f"{self._complaint} {reason}")
