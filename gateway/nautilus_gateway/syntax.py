"""nginx's syntax as values: a directive, a block of them, and how each is written.

Every text that comes from outside the package (paths, addresses, names) passes `literal`, because nginx
knows no escape for `$`: such a text cannot be written at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nautilus_gateway.errors import ConfigurationInvalid

_PLAIN = re.compile(r"[A-Za-z0-9_./:@=$*~^?+|()\[\],%<>&-]+")
_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f$]")
_INDENT = "    "


@dataclass(frozen=True)
class Directive:
    """`name args;`, or with `body` (which may be empty, None is none) `name args { … }`."""

    name: str
    args: tuple[str, ...] = ()
    body: tuple[Directive, ...] | None = None


def directive(name: str, *args: object) -> Directive:
    return Directive(name, tuple(str(arg) for arg in args))


def unbuffered(silence_s: int) -> list[Directive]:
    """Bodies of any length, both ways as they come; nothing is put aside. `silence_s`: the longest of the service."""
    return [
        directive("client_max_body_size", 0),
        directive("proxy_request_buffering", "off"),
        directive("proxy_buffering", "off"),
        directive("gzip", "off"),
        directive("proxy_read_timeout", f"{silence_s}s"),
        directive("proxy_send_timeout", f"{silence_s}s"),
    ]


def block(name: str, *args: object, body: Iterable[Directive]) -> Directive:
    return Directive(name, tuple(str(arg) for arg in args), tuple(body))


def lookup(source: str, name: str, values: Mapping[str, str], default: str = "") -> Directive:
    """`map`: the variable `name` is the value whose key (or `~regex`) `source` is."""
    body = [directive("default", default), *(directive(key, value) for key, value in values.items())]
    return block("map", source, f"${name}", body=body)


def literal(value: object) -> str:
    """`value` as text without variables. Raises ConfigurationInvalid for `$` and control characters."""
    text = str(value)
    if not text or _UNWRITABLE.search(text):
        raise ConfigurationInvalid(f"cannot be written into an nginx configuration: {text!r}")
    return text


def write(directives: Iterable[Directive], depth: int = 0) -> str:
    """The text of the directives, a line each, indented by `depth` levels."""
    lines: list[str] = []
    for one in directives:
        head = _INDENT * depth + " ".join(map(quoted, [one.name, *one.args]))
        if one.body is None:
            lines.append(head + ";")
        else:
            lines += [head + " {", *_body(one.body, depth + 1), _INDENT * depth + "}"]
    return "\n".join(lines)


def quoted(arg: str) -> str:
    """One argument, in quotes where nginx would otherwise read more or less than it."""
    if _PLAIN.fullmatch(arg):
        return arg
    return '"' + arg.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _body(body: tuple[Directive, ...], depth: int) -> list[str]:
    return [write(body, depth)] if body else []
