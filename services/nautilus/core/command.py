"""Puts parameter values into a shell command so that no value is ever read as shell.

`{name}` stands for a parameter's value wherever a word may stand: bare, inside "double" or inside 'single'
quotes, and inside `$(…)`. It always becomes exactly the value, as (part of) one word. Braces that name no
parameter are the shell's own and stay, as do comments. Where quoting has other rules (backticks,
here-documents, arithmetic, `${x:-…}`, `$'…'`, `case`) only values made of safe characters are put in, and
others are refused.

Source: POSIX.1-2024, Shell Command Language, 2.2 Quoting and 2.6 Word Expansions.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from enum import Enum, auto

from nautilus.core.params import NAME, ParamValue, text_of
from nautilus.errors import InvalidCommand

COMMAND_LIMIT_BYTES = 64 * 1024
_PLACEHOLDER = re.compile(r"\{(" + NAME.pattern + r")\}")
_PLAIN_EXPANSION = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_SAFE = re.compile(r"[A-Za-z0-9_@%+=:,./\-]+")
_ODD = re.compile(r"`|(?<!<)<<(?!<)|\$'|\(\(|\$\{|\$\[|\bcase\b|[$(<]\\\n")
"""Where our reading of the quotes may differ from the shell's. `<<<` is an ordinary word."""


class _Quote(Enum):
    NONE = auto()
    PAREN = auto()
    DOUBLE = auto()
    SINGLE = auto()


def check_command(command: str) -> str:
    """Raises InvalidCommand for one that is empty, too long, or cannot be a shell's."""
    if not command.strip():
        raise InvalidCommand("the command is empty")
    if "\0" in command:
        raise InvalidCommand("the command holds a NUL character")
    try:
        size = len(command.encode())
    except UnicodeEncodeError:
        raise InvalidCommand("the command is not valid Unicode") from None
    if size > COMMAND_LIMIT_BYTES:
        raise InvalidCommand(f"the command is {size} bytes long: at most {COMMAND_LIMIT_BYTES} are taken")
    return command


def render_command(command: str, params: Mapping[str, ParamValue]) -> str:
    """The command with every `{name}` of `params` replaced by its value, quoted for where it stands.

    Raises InvalidCommand where quotes do not match, or where a value cannot stand safely.
    """
    check_command(command)
    if not any(match[1] in params for match in _PLACEHOLDER.finditer(command)):
        return command
    return _Renderer(command, params).render()


class _Renderer:
    def __init__(self, command: str, params: Mapping[str, ParamValue]) -> None:
        self._text = command
        self._params = params
        self._at = 0
        self._out: list[str] = []
        self._quotes = [_Quote.NONE]
        self._escaped_at = -1
        self._is_odd = _ODD.search(_PLAIN_EXPANSION.sub("", command)) is not None

    def render(self) -> str:
        while self._at < len(self._text):
            self._step()
        if self._quotes[-1] in (_Quote.DOUBLE, _Quote.SINGLE) and not self._is_odd:
            raise InvalidCommand("the command's quotes do not match")
        return "".join(self._out)

    def _step(self) -> None:
        placeholder = _PLACEHOLDER.match(self._text, self._at)
        if placeholder and placeholder[1] in self._params and not self._follows_dollar():
            self._out.append(self._value(placeholder[1]))
            self._at = placeholder.end()
            return
        char, quote = self._text[self._at], self._quotes[-1]
        if quote is _Quote.SINGLE:
            self._take(1)
            if char == "'":
                self._quotes.pop()
        elif char == "\\":
            self._take(2)
            self._escaped_at = self._at
        elif char == '"':
            self._take(1)
            self._quotes.pop() if quote is _Quote.DOUBLE else self._quotes.append(_Quote.DOUBLE)
        elif self._text.startswith("$(", self._at):
            self._take(2)
            self._quotes.append(_Quote.PAREN)
        elif quote is _Quote.DOUBLE:
            self._take(1)
        else:
            self._unquoted(char)

    def _unquoted(self, char: str) -> None:
        if char == "#" and self._starts_word():
            end = self._text.find("\n", self._at)
            self._take((end if end >= 0 else len(self._text)) - self._at)
            return
        self._take(1)
        if char == "'":
            self._quotes.append(_Quote.SINGLE)
        elif char == "(":
            self._quotes.append(_Quote.PAREN)
        elif char == ")" and self._quotes[-1] is _Quote.PAREN:
            self._quotes.pop()

    def _value(self, name: str) -> str:
        text = text_of(self._params[name])
        if _SAFE.fullmatch(text):
            return text
        if self._is_odd:
            raise InvalidCommand(
                f"the value of {{{name}}} cannot be put safely into a command with backticks, "
                "here-documents, arithmetic, ${…:…}, $'…' or case: read it from the file $NAUTILUS_PARAMS"
            )
        quoted = shlex.quote(text)
        if self._quotes[-1] is _Quote.DOUBLE:
            return f'"{quoted}"'
        return f"'{quoted}'" if self._quotes[-1] is _Quote.SINGLE else quoted

    def _take(self, count: int) -> None:
        self._out.append(self._text[self._at : self._at + count])
        self._at += count

    def _follows_dollar(self) -> bool:
        return self._at > 0 and self._text[self._at - 1] == "$"

    def _starts_word(self) -> bool:
        if self._at in (0, self._escaped_at):
            return self._at == 0
        return self._text[self._at - 1] in " \t\n;&|()<>"
