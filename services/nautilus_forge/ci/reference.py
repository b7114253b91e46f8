"""`!reference [job, key]`: the value found at that path of the whole configuration.

Source: lib/gitlab/ci/config/yaml/tags/{base,reference,resolver}.rb.
"""

from __future__ import annotations

from typing import Any

from nautilus_forge.ci.document import MAX_DEPTH, MAX_WEIGHT, TOO_BIG
from nautilus_forge.ci.model import CiConfigError
from nautilus_forge.ci.scalars import quote
from nautilus_forge.ci.values import Reference, YamlList, YamlMap, error_at


def resolve(config: YamlMap) -> YamlMap:
    """The configuration with every reference replaced by what it stands for; what has none is shared, not copied.

    Raises `CiConfigError`: not found, circular, or larger than a configuration may be.
    """
    resolved: YamlMap = _Resolver(config).walk(config, 0)[0]
    return resolved


class _Resolver:
    def __init__(self, config: YamlMap) -> None:
        self._config = config
        self._known: dict[int, tuple[Any, int, int]] = {}
        self._open: set[int] = set()

    def walk(self, value: Any, depth: int) -> tuple[Any, int, int]:
        """The value without references, its weight (as `document.MAX_WEIGHT` counts it) and its height."""
        if isinstance(value, str):
            return value, len(value) + 16, 0
        if not isinstance(value, YamlMap | YamlList | Reference):
            return value, 16, 0
        found = self._known.get(id(value))
        if found is None:
            found = (
                self._follow(value, depth) if isinstance(value, Reference) else self._walk_items(value, depth)
            )
            self._known[id(value)] = found
        if found[1] > MAX_WEIGHT or depth + found[2] > MAX_DEPTH:
            raise CiConfigError([error_at(TOO_BIG, None)])
        return found

    def _walk_items(self, value: YamlMap | YamlList, depth: int) -> tuple[Any, int, int]:
        if depth > MAX_DEPTH:
            raise CiConfigError([error_at(TOO_BIG, None)])
        items = value.items() if isinstance(value, YamlMap) else enumerate(value)
        replaced: dict[Any, Any] = {}
        weight, height = 16, 0
        for key, item in items:
            new, size, levels = self.walk(item, depth + 1)
            weight += size
            height = max(height, levels)
            if new is not item:
                replaced[key] = new
        if not replaced:
            return value, weight, height + 1
        copy: Any = value.duplicate()
        for key, item in replaced.items():
            copy[key] = item
        return copy, weight, height + 1

    def _follow(self, reference: Reference, depth: int) -> tuple[Any, int, int]:
        if id(reference) in self._open:
            self._fail(reference, "is part of a circular chain")
        target: Any = self._config
        for part in reference.path:
            target = target.get(part) if isinstance(target, YamlMap) else None
        if target is None:
            self._fail(reference, "could not be found")
        self._open.add(id(reference))
        found = self.walk(target, depth)
        self._open.discard(id(reference))
        return found

    def _fail(self, reference: Reference, problem: str) -> None:
        message = f"!reference {quote(list(reference.path))} {problem}"
        raise CiConfigError([error_at(message, reference.place)])
