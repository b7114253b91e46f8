"""`$[[ inputs.name | function ]]` in the keys and values of a file that declares its inputs.

Source: lib/gitlab/ci/config/interpolation/{template,block,access,functions_stack}.rb and functions/.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from nautilus_forge.ci.budget import Budget, BudgetExhausted
from nautilus_forge.ci.scalars import to_text
from nautilus_forge.ci.values import Reference, YamlList, YamlMap
from nautilus_forge.ci.variables import expand

MAX_BLOCKS = 10_000
MAX_FUNCTIONS = 3
MAX_ACCESS_BYTES = 1_024
MAX_GROWTH_CHARS = 3_000_000
"""Of all files of one compilation."""
MAX_VALUE_HEIGHT = 10

_TRUNCATE = re.compile(r"truncate\(\s*(\d{1,6})\s*,\s*(\d{1,6})\s*\)?\Z")
_POSIX_UNSAFE = re.compile(r"([^A-Za-z0-9_\-.,:+/@\n])")


class InterpolationError(Exception):
    """A block that cannot be filled in; the message is GitLab's."""


class Interpolator:
    """Fills the blocks of one file. `growth`: characters that all files may still grow by."""

    def __init__(self, inputs: Mapping[str, Any], variables: Mapping[str, str], growth: Budget) -> None:
        self._inputs = inputs
        self._variables = variables
        self._values: dict[str, Any] = {}
        self._growth = growth

    def fill(self, value: Any) -> Any:
        """The value with its blocks filled in; shared where there are none. Raises `InterpolationError`."""
        if isinstance(value, str):
            return self._text(value) if "$[[" in value else value
        if isinstance(value, YamlMap):
            return self._map(value)
        if isinstance(value, YamlList):
            filled = [self.fill(item) for item in value]
            if all(new is old for new, old in zip(filled, value, strict=True)):
                return value
            copy = value.duplicate()
            copy[:] = filled
            return copy
        if isinstance(value, Reference):
            return Reference(tuple(to_text(self.fill(part)) for part in value.path), value.place)
        return value

    def _map(self, value: YamlMap) -> YamlMap:
        copy = YamlMap()
        changed = False
        for key, item in value.items():
            new_key, new_item = self.fill(key), self.fill(item)
            if isinstance(new_key, dict | list):
                raise InterpolationError(f"an array cannot be used as a key: `{to_text(key)}`")
            changed = changed or new_key is not key or new_item is not item
            copy[new_key] = new_item
            if key in value.places:
                copy.places[new_key] = value.places[key]
        return copy if changed else value

    def _text(self, text: str) -> Any:
        parts: list[Any] = []
        at = 0
        while (start := text.find("$[[", at)) >= 0 and (end := text.find("]]", start)) >= 0:
            content = text[start + 3 : end].strip()
            if not content or "\n" in content or content.startswith("matrix."):
                parts.append(text[at : end + 2])
            else:
                parts += [text[at:start], self._block(content)]
                if start == 0 and end + 2 == len(text):
                    self._grow(_weight(parts[1], 0))
                    return parts[1]
            at = end + 2
        texts = [part if isinstance(part, str) else _as_text(part) for part in (*parts, text[at:])]
        self._grow(sum(map(len, texts)))
        return "".join(texts)

    def _grow(self, size: int) -> None:
        try:
            self._growth.spend(size)
        except BudgetExhausted as error:
            raise InterpolationError("config too large") from error

    def _block(self, content: str) -> Any:
        if content not in self._values:
            if len(self._values) >= MAX_BLOCKS:
                raise InterpolationError("too many interpolation blocks")
            self._values[content] = self._evaluate(content)
        return self._values[content]

    def _evaluate(self, content: str) -> Any:
        access, *functions = (part.strip() for part in content.split("|"))
        value = self._access(access)
        if len(functions) > MAX_FUNCTIONS:
            raise InterpolationError("too many functions in interpolation block")
        for function in functions:
            value = self._apply(function, value)
        return value

    def _access(self, access: str) -> Any:
        scope, dot, name = access.partition(".")
        if not dot or not name:
            raise InterpolationError("invalid interpolation access pattern")
        if len(access.encode()) > MAX_ACCESS_BYTES:
            raise InterpolationError("maximum interpolation expression size exceeded")
        if scope != "inputs":
            raise InterpolationError(f"unknown interpolation key: `{scope}`")
        if name not in self._inputs:
            raise InterpolationError(f"unknown interpolation key: `{name}`")
        return self._inputs[name]

    def _apply(self, function: str, value: Any) -> Any:
        truncate = _TRUNCATE.match(function)
        name = "truncate" if truncate else function
        if name not in ("truncate", "expand_vars", "posix_escape"):
            raise InterpolationError(
                f"no function matching `{function}`: check that the function name, arguments, and types are correct"
            )
        if not isinstance(value, str):
            raise InterpolationError(f"invalid input type: {name} can only be used with string inputs")
        if truncate:
            offset, length = int(truncate[1]), int(truncate[2])
            return value[offset : offset + length]
        if name == "expand_vars":
            return expand(value, self._variables)
        return _POSIX_UNSAFE.sub(r"\\\1", value).replace("\n", "'\n'") if value else "''"


def _weight(value: Any, height: int) -> int:
    """The characters of a value. Raises `InterpolationError` where it is nested too deeply."""
    if height > MAX_VALUE_HEIGHT:
        raise InterpolationError("config too large")
    if isinstance(value, list):
        return 16 + sum(_weight(item, height + 1) for item in value)
    if isinstance(value, dict):
        return 16 + sum(len(to_text(key)) + _weight(item, height + 1) for key, item in value.items())
    return len(value) + 16 if isinstance(value, str) else 16


def _as_text(value: Any) -> str:
    if isinstance(value, list | dict):
        return json.dumps(value, default=str)
    return to_text(value)
