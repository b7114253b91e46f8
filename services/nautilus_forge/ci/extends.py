"""`extends`: a job laid upon other jobs.

Source: lib/gitlab/ci/config/extendable/entry.rb.
"""

from __future__ import annotations

from typing import Any

from nautilus_forge.ci.budget import Budget
from nautilus_forge.ci.merging import deep_merge
from nautilus_forge.ci.model import CiConfigError, ConfigError
from nautilus_forge.ci.scalars import to_text
from nautilus_forge.ci.values import Place, YamlMap, error_at, place_of

MAX_LEVELS = 10


def resolve(config: YamlMap, budget: Budget) -> YamlMap:
    """The configuration with every `extends` carried out. Raises `CiConfigError`, `BudgetExhausted`."""
    extender = _Extender(config, budget)
    resolved = YamlMap()
    resolved.places.update(config.places)
    for key in config:
        resolved[key] = extender.extended(key, ())
    if extender.errors:
        raise CiConfigError(extender.errors)
    return resolved


class _Extender:
    def __init__(self, config: YamlMap, budget: Budget) -> None:
        self._config = config
        self._budget = budget
        self._done: dict[Any, Any] = {}
        self._levels: dict[Any, int] = {}
        self._failed: set[Any] = set()
        self.errors: list[ConfigError] = []

    def extended(self, key: Any, ancestors: tuple[Any, ...]) -> Any:
        value = self._config[key]
        bases = _bases(value)
        if not bases:
            return value
        self._budget.spend(len(bases))
        if key in self._done:
            if len(ancestors) + self._levels[key] > MAX_LEVELS + 1:
                deepest = self._beyond(key, len(ancestors))
                return self._fail(deepest, f"{to_text(deepest)}: nesting too deep in `extends`")
            return self._done[key]
        if problem := self._problem(key, bases, ancestors):
            return self._fail(key, problem)
        merged: Any = YamlMap()
        for base in bases:
            merged = deep_merge(merged, self.extended(base, (*ancestors, key)), self._budget)
        self._levels[key] = 1 + max(self._levels.get(base, 0) for base in bases)
        self._done[key] = deep_merge(merged, value, self._budget)
        return self._done[key]

    def _problem(self, key: Any, bases: list[str], ancestors: tuple[Any, ...]) -> str | None:
        if unknown := [base for base in bases if base not in self._config]:
            return f"{to_text(key)}: unknown keys in `extends` ({', '.join(unknown)})"
        if invalid := [base for base in bases if not isinstance(self._config[base], YamlMap)]:
            return f"{to_text(key)}: invalid base hashes in `extends` ({', '.join(invalid)})"
        if len(ancestors) > MAX_LEVELS:
            return f"{to_text(key)}: nesting too deep in `extends`"
        if key in ancestors:
            return f"{to_text(key)}: circular dependency detected in `extends`"
        return None

    def _beyond(self, key: Any, depth: int) -> Any:
        """The base with which a chain gets too deep, which is the one that GitLab names."""
        for level in range(depth + 1, MAX_LEVELS + 2):
            wanted = MAX_LEVELS + 2 - level
            key = next(base for base in _bases(self._config[key]) if self._levels.get(base, 0) >= wanted)
        return key

    def _fail(self, key: Any, message: str) -> Any:
        if key not in self._failed:
            self._failed.add(key)
            self.errors.append(error_at(message, self._place(key)))
        return self._config[key]

    def _place(self, key: Any) -> Place | None:
        return place_of(self._config[key], "extends") or place_of(self._config, key)


def _bases(value: Any) -> list[str]:
    if not isinstance(value, YamlMap) or "extends" not in value:
        return []
    extends = value["extends"]
    return [
        to_text(base) for base in (extends if isinstance(extends, list) else [extends]) if base is not None
    ]
