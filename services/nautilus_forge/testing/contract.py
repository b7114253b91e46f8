"""Holds answers against GitLab's own description of its API.

The description (`tests/contract/data/gitlab-api.json`) names 522 routes and 168 entities. It is generated from
GitLab's sources and not always true: what stands otherwise in the sources themselves, and what this forge means
to answer otherwise, is in `differences.toml` beside it, each with its reason.

Source: gitlabhq doc/api/openapi/openapi_v2.yaml, lib/api/entities/.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

_PARAMETER = re.compile(r"\{[^}]*\}|\*\w+")
_OPTIONAL = re.compile(r"\(([^()]*)\)")
_ENUM = re.compile(r"(\w+)\((.+)\)")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)")
KINDS = ("absent", "sometimes", "type", "extra", "answer", "never", "undescribed")
_OF_ROUTES = ("answer", "never", "undescribed")


def normal(path: str) -> str:
    """A route's template without the names of its parameters: `/projects/{}/jobs`."""
    return _PARAMETER.sub("{}", path)


@dataclass(frozen=True)
class Expected:
    """What a route answers when it succeeds. `entities` empty: nothing is said about the body.

    `is_list` None: the description leaves open whether it is one or a list of them.
    """

    statuses: frozenset[int]
    entities: tuple[str, ...]
    is_list: bool | None


@dataclass(frozen=True)
class Difference:
    """One entry of differences.toml, for one name: `kind` of `KINDS`, `name` a route or `Entity.field`.

    In names of fields `*` stands for anything: `User*.avatar_path`.
    """

    kind: str
    name: str
    value: Any = None

    def __str__(self) -> str:
        return f"[[{self.kind}]] {self.name}"

    def covers(self, name: str) -> bool:
        return fnmatchcase(name, self.name)


@dataclass
class Seen:
    """What answers showed. `shown`, `lacking`, `mistyped`, `extra`: `Entity.field`, by how it was there (not null),
    was not there, had another type than described, or is not described; `present`: there, null or not; `routes`:
    those that succeeded;
    `unlike`: those that answered otherwise than described.
    """

    shown: set[str] = field(default_factory=set)
    present: set[str] = field(default_factory=set)
    lacking: set[str] = field(default_factory=set)
    mistyped: set[str] = field(default_factory=set)
    extra: set[str] = field(default_factory=set)
    routes: set[str] = field(default_factory=set)
    unlike: set[str] = field(default_factory=set)

    def as_lists(self) -> dict[str, list[str]]:
        return {f.name: sorted(getattr(self, f.name)) for f in fields(self)}

    def add(self, other: Mapping[str, Iterable[str]]) -> None:
        for name, values in other.items():
            getattr(self, name).update(values)


@dataclass
class Contract:
    """`routes`, `entities`: as described; `differences`: as listed."""

    routes: Mapping[str, Mapping[str, Any]]
    entities: Mapping[str, Mapping[str, Any]]
    differences: tuple[Difference, ...]
    seen: Seen = field(default_factory=Seen)

    @classmethod
    def load(cls, folder: Path) -> Contract:
        """Raises `ValueError` for an entry of differences.toml without a reason, or that names nothing described."""
        described = json.loads((folder / "gitlab-api.json").read_text(encoding="utf-8"))
        listed = tomllib.loads((folder / "differences.toml").read_text(encoding="utf-8"))
        return cls(described["routes"], described["entities"], tuple(_differences(listed)))

    def __post_init__(self) -> None:
        self._by_shape = {_shape(one): name for name in self.routes for one in _spelled_out(name)}
        self._undescribed = {_shape(d.name): d for d in self.differences if d.kind == "undescribed"}
        self._known: dict[tuple[str, str], Difference | None] = {}
        for difference in self.differences:
            if difference.kind in _OF_ROUTES:
                names = [*difference.value.get("entities", ())]
                names += [difference.name] if difference.kind != "undescribed" else []
            else:
                names = [difference.name.partition(".")[0]]
            for name in names:
                if name not in self.routes and not any(fnmatchcase(e, name) for e in self.entities):
                    raise ValueError(f"differences.toml: {difference}: GitLab describes no {name}")

    def route(self, method: str, path: str) -> str | None:
        """The described route of the same shape (`GET /runners/{id}` for `/runners/{runner_id}`), or None."""
        return self._by_shape.get((method, normal(path)))

    def expected(self, name: str) -> Expected:
        """What the route called `name` shall answer: as described, or as differences.toml says."""
        described = _described(self.routes[name]["responses"])
        corrected = self._listed("answer", name)
        if corrected is None:
            return described
        return Expected(
            frozenset(corrected.value.get("status", described.statuses)),
            tuple(corrected.value.get("entities", described.entities)),
            corrected.value.get("list", described.is_list),
        )

    def check(self, method: str, path: str, status: int, body: Any) -> list[str]:
        """What is wrong with a successful answer of a route of ours: a line each, which says what to do."""
        name = self.route(method, path)
        if name is None:
            return self._check_undescribed(method, path, status, body)
        self.seen.routes.add(name)
        described, expected = _described(self.routes[name]["responses"]), self.expected(name)
        if any(_answer_problems(described, status, body)) or described.entities != expected.entities:
            self.seen.unlike.add(name)
        return self._problems(name, expected, status, body)

    def _check_undescribed(self, method: str, path: str, status: int, body: Any) -> list[str]:
        """A route that the description leaves out, where differences.toml says what it answers."""
        listed = self._undescribed.get((method, normal(path)))
        if listed is None:
            return []
        said = listed.value
        expected = Expected(frozenset(said["status"]), tuple(said["entities"]), said.get("list", False))
        return self._problems(listed.name, expected, status, body)

    def _problems(self, name: str, expected: Expected, status: int, body: Any) -> list[str]:
        lines = list(_answer_problems(expected, status, body))
        if body is not None and expected.entities:
            for item in body if isinstance(body, list) else [body]:
                lines += self._best(expected.entities, item)
        return [f"{name}: {line}" for line in dict.fromkeys(lines)]

    def unanswered(self, served: Iterable[tuple[str, str]]) -> list[str]:
        """Described routes among those `served` (method, path) that never succeeded and are not said to."""
        described = {name for method, path in served if (name := self.route(method, path))}
        meant = {d.name for d in self.differences if d.kind == "never"}
        return sorted(described - self.seen.routes - meant)

    def stale(self) -> list[str]:
        """Entries of differences.toml that what was seen speaks against: a line each, which says what to do."""
        return [f"{d}: {reason}" for d in self.differences if (reason := self._staleness(d))]

    def _staleness(self, difference: Difference) -> str | None:
        def among(names: Iterable[str]) -> bool:
            return any(difference.covers(name) for name in names)

        seen = self.seen
        match difference.kind:
            case "answer" if among(seen.routes) and not among(seen.unlike):
                return "GitLab's description says the same; take it out"
            case "never" if among(seen.routes):
                return "it succeeded; take it out"
            case "absent" if among(seen.shown):
                return "it is shown; take it out"
            case "sometimes" if among(seen.present) and not among(seen.lacking):
                return "it was never missing; take it out"
            case "sometimes" if among(seen.lacking) and not among(seen.present):
                return "it was never shown: show it in a test, or name it in [[absent]]"
            case "type" if among(seen.shown) and not among(seen.mistyped):
                return "it has the described type; take it out"
            case "extra" if self._is_entity_seen(difference) and not among(seen.extra):
                return "it was never shown; take it out"
        return None

    def _is_entity_seen(self, difference: Difference) -> bool:
        entity = difference.name.partition(".")[0]
        return any(fnmatchcase(name.partition(".")[0], entity) for name in self.seen.shown)

    def _best(self, entities: Iterable[str], item: Any) -> list[str]:
        """The problems by the entity that fits best, whose fields then count as seen."""
        found: list[tuple[int, int, list[str], Seen]] = []
        for entity in entities:
            seen = Seen()
            problems = list(self._object_problems(entity, self.entities[entity], item, seen))
            found.append((len(problems), len(found), problems, seen))
        _, _, problems, seen = min(found, key=lambda one: one[:2])
        self.seen.add(seen.as_lists())
        return problems

    def _object_problems(
        self, name: str, described: Mapping[str, Any], item: Any, seen: Seen
    ) -> Iterator[str]:
        if not isinstance(item, dict):
            yield f"{name} is {_named(item)}, not an object: mend it, or correct [[answer]] or [[type]]"
            return
        for key, kind in described.items():
            whole = f"{name}.{key}"
            if key not in item:
                seen.lacking.add(whole)
                if self._listed("absent", whole) is None and self._listed("sometimes", whole) is None:
                    yield f"{whole} is missing: show it, or name it in [[absent]] or [[sometimes]]"
                continue
            seen.present.add(whole)
            if (listed := self._listed("absent", whole)) is not None:
                yield f"{whole} is shown: take {listed.name} out of [[absent]]"
            yield from self._field_problems(whole, kind, item[key], seen)
        for key in item.keys() - described.keys():
            seen.extra.add(f"{name}.{key}")
            if self._listed("extra", f"{name}.{key}") is None:
                yield f"{name}.{key} is not described: take it away, or name it in [[extra]]"

    def _field_problems(self, name: str, described: Any, value: Any, seen: Seen) -> Iterator[str]:
        if value is None:
            return
        seen.shown.add(name)
        corrected = self._listed("type", name)
        if corrected is None:
            yield from self._value_problems(name, described, value, seen)
            return
        if any(self._value_problems(name, described, value, Seen())):
            seen.mistyped.add(name)
        yield from self._value_problems(name, corrected.value, value, seen)

    def _value_problems(self, name: str, kind: Any, value: Any, seen: Seen) -> Iterator[str]:
        if isinstance(kind, list):
            if not isinstance(value, list):
                yield f"{name} is {_named(value)}, described is a list: mend it, or correct [[type]]"
                return
            for item in value:
                yield from self._value_problems(name, kind[0], item, seen)
        elif isinstance(kind, dict):
            yield from self._object_problems(name, kind, value, seen)
        elif kind in self.entities:
            yield from self._object_problems(kind, self.entities[kind], value, seen)
        elif not fits(kind, value):
            what = f"{name} is {_named(value)}"
            shown = f" ({value!r:.60})" if isinstance(value, str) else ""
            yield f"{what}{shown}, described is {kind}: mend it, or correct [[type]]"

    def _listed(self, kind: str, name: str) -> Difference | None:
        if (kind, name) not in self._known:
            found = (d for d in self.differences if d.kind == kind and d.covers(name))
            self._known[kind, name] = next(found, None)
        return self._known[kind, name]


def _spelled_out(name: str) -> list[str]:
    """A description may put what can be left out of a path into parentheses, as Grape does."""
    optional = _OPTIONAL.search(name)
    if optional is None:
        return [name]
    return [_OPTIONAL.sub("", name, count=1), _OPTIONAL.sub(optional[1], name, count=1)]


def _shape(name: str) -> tuple[str, str]:
    method, path = name.split(" ", 1)
    return method, normal(path)


def _described(responses: Mapping[str, Any]) -> Expected:
    good = {int(status): entity for status, entity in responses.items() if status.startswith("2")}
    entity = next((value for value in good.values() if value), None)
    if entity is None or entity == "file":
        return Expected(frozenset(good), (), None)
    if isinstance(entity, list):
        return Expected(frozenset(good), (entity[0],), True)
    return Expected(frozenset(good), (entity,), False)


def _answer_problems(expected: Expected, status: int, body: Any) -> Iterator[str]:
    if expected.statuses and status not in expected.statuses:
        wanted = " or ".join(map(str, sorted(expected.statuses)))
        yield f"the status is {status}, described is {wanted}: mend it, or correct [[answer]]"
    if body is not None and expected.is_list is not None and isinstance(body, list) != expected.is_list:
        wanted = "a list" if expected.is_list else "one object"
        yield f"the body is {_named(body)}, described is {wanted}: mend it, or correct [[answer]]"


def fits(kind: str, value: Any) -> bool:
    """Whether a value that is not null is of a scalar type of the description."""
    enum = _ENUM.fullmatch(kind)
    if enum is not None:
        return str(value) in enum[2].split("|") and fits(enum[1], value)
    match kind:
        case "string" | "text" | "symbol":
            return isinstance(value, str)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number:float":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool)
        case "string:date-time":
            return isinstance(value, str) and _DATE_TIME.fullmatch(value) is not None
        case "string:date":
            return isinstance(value, str) and _DATE.fullmatch(value) is not None
        case "object":
            return isinstance(value, dict)
        case "any":
            return True
        case _:
            raise ValueError(f"the description has no type {kind!r}")


def _named(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"


def _differences(listed: Mapping[str, Any]) -> Iterator[Difference]:
    for kind, groups in listed.items():
        if kind not in KINDS:
            raise ValueError(f"differences.toml: [[{kind}]] is none of {', '.join(KINDS)}")
        for group in groups:
            if not str(group.get("reason", "")).strip():
                raise ValueError(f"differences.toml: an entry of [[{kind}]] has no reason: {group}")
            is_of_routes = kind in _OF_ROUTES
            for name in group["routes" if is_of_routes else "fields"]:
                yield Difference(kind, name, group if is_of_routes else group.get("type"))
