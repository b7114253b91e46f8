"""Values as Ruby literals that cannot be anything else, and lines of gitlab.rb. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Value: TypeAlias = "str | bool | int | Sequence[Value] | Mapping[str, Value] | None"

_SECTION = re.compile(r"[a-z][a-z0-9_]*")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


@dataclass(frozen=True)
class Setting:
    """`section['key']['…'] = value`, or `section value` where there is no key (`external_url`)."""

    path: tuple[str, ...]
    value: Value

    @property
    def name(self) -> str:
        """As in the list of known keys: `gitlab_rails.db_host`."""
        return ".".join(self.path)


def literal(value: Value) -> str:
    """The value as Ruby. Raises ValueError for a text with control characters but the newline of a PEM.

    A text is single-quoted, where Ruby knows no interpolation and only `\\\\` and `\\'` as escapes.
    Source: https://docs.ruby-lang.org/en/3.3/syntax/literals_rdoc.html#label-String+Literals
    """
    match value:
        case None:
            return "nil"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            if _CONTROL.search(value):
                raise ValueError("a setting of GitLab's holds a control character")
            return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
        case Mapping():
            return "{ " + ", ".join(f"{literal(k)} => {literal(v)}" for k, v in value.items()) + " }"
        case Sequence():
            return "[" + ", ".join(literal(item) for item in value) + "]"


def line(setting: Setting) -> str:
    """One statement. Raises ValueError where the section is no plain word."""
    section, *keys = setting.path
    if not _SECTION.fullmatch(section):
        raise ValueError(f"not a section of gitlab.rb: {section!r}")
    if not keys:
        return f"{section} {literal(setting.value)}"
    return section + "".join(f"[{literal(key)}]" for key in keys) + f" = {literal(setting.value)}"
