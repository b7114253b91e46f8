"""Where a value stands, the mistakes found so far, and the checks that most keywords share."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

from nautilus_forge.ci.entries.keywords import Keywords
from nautilus_forge.ci.model import ConfigError
from nautilus_forge.ci.scalars import to_text
from nautilus_forge.ci.values import Place, error_at, place_of

T = TypeVar("T")

MAX_PROBLEMS = 200
MAX_SCRIPT_NESTING = 10


class Spot:
    """Where a value stands: GitLab's name for it (`jobs:test:image`) and its place in the file."""

    __slots__ = ("place", "where")

    def __init__(self, where: str, place: Place | None) -> None:
        self.where = where
        self.place = place

    def key(self, container: Any, key: Any) -> Spot:
        """The spot of a key of the mapping that stands here."""
        return Spot(f"{self.where}:{to_text(key)}", place_of(container, key) or self.place)

    def item(self, container: Any, index: int, name: str) -> Spot:
        """The spot of an item of the sequence that stands here."""
        return Spot(f"{self.where}:{name}", place_of(container, index) or self.place)


class Problems:
    """The mistakes found, and the values read that several jobs share."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.errors: list[ConfigError] = []
        self.warnings: list[str] = []
        self._shared: dict[tuple[str, int], tuple[Any, Any]] = {}

    @property
    def is_full(self) -> bool:
        """Whether so many mistakes were found that looking for more helps nobody."""
        return len(self.errors) >= MAX_PROBLEMS

    def add(self, message: str, place: Place | None) -> None:
        """Note a mistake."""
        if not self.is_full:
            self.errors.append(error_at(message, place, self._file))

    def warn(self, message: str) -> None:
        """Note something that is no mistake but that its author should know."""
        if len(self.warnings) < MAX_PROBLEMS and message not in self.warnings:
            self.warnings.append(message)

    def shared(self, kind: str, value: Any, read: Callable[[], T]) -> T:
        """What `read` gives; for a value that was already read without mistakes, what it gave then.

        Jobs that extend the same base share its values, so that each is checked once and not once a job.
        """
        if not isinstance(value, dict | list):
            return read()
        key = (kind, id(value))
        known = self._shared.get(key)
        if known is not None:
            return known[1]  # type: ignore[no-any-return]
        before = len(self.errors)
        result = read()
        if len(self.errors) == before:
            self._shared[key] = (value, result)
        return result


def attribute(key: str) -> str:
    """The key as Rails writes it in a message: `expire_in` is "expire in"."""
    return key.replace("_", " ")


def is_text_list(value: Any) -> bool:
    """Whether the value is a sequence of texts."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def check_keys(value: dict[Any, Any], keywords: Keywords, spot: Spot, problems: Problems) -> None:
    """Add the keys that GitLab does not know, and, one by one, those that this server does not carry out."""
    unknown, refused = keywords.strays(value)
    for key in refused:
        refuse(spot.key(value, key), problems)
    if unknown:
        names = ", ".join(to_text(key) for key in unknown)
        place = place_of(value, unknown[0]) or spot.place
        problems.add(f"{spot.where} config contains unknown keys: {names}", place)


def refuse(spot: Spot, problems: Problems) -> None:
    """Add that a keyword of GitLab's is not carried out by this server."""
    problems.add(f"{spot.where} is not supported by this server yet", spot.place)


def check_required(value: dict[Any, Any], required: str, spot: Spot, problems: Problems) -> None:
    """Add that a key is missing."""
    if required not in value:
        problems.add(f"{spot.where} config missing required keys: {required}", spot.place)


class Fields:
    """The keys of one mapping; each is read with the check that GitLab makes of it. Null counts as not given."""

    def __init__(self, value: dict[Any, Any], spot: Spot, problems: Problems) -> None:
        self.value = value
        self.spot = spot
        self.problems = problems

    def fail(self, key: str, message: str) -> None:
        """Add a mistake at a key, in the way of an attribute: `jobs:test:artifacts expire in MESSAGE`."""
        place = place_of(self.value, key) or self.spot.place
        self.problems.add(f"{self.spot.where} {attribute(key)} {message}", place)

    def text(self, key: str) -> str | None:
        """A text."""
        value = self.value.get(key)
        if value is None or isinstance(value, str):
            return value
        self.fail(key, "should be a string")
        return None

    def flag(self, key: str) -> bool | None:
        """True or false."""
        value = self.value.get(key)
        if value is None or isinstance(value, bool):
            return value
        self.fail(key, "should be a boolean value")
        return None

    def texts(self, key: str) -> tuple[str, ...] | None:
        """A sequence of texts."""
        value = self.value.get(key)
        if value is None:
            return None
        found = self.problems.shared("texts", value, lambda: tuple(value) if is_text_list(value) else None)
        if found is None:
            self.fail(key, "should be an array of strings")
        return found

    def choice(self, key: str, options: Collection[str], message: str | None = None) -> str | None:
        """One of a few texts."""
        value = self.value.get(key)
        if value is None:
            return None
        if isinstance(value, str) and value in options:
            return value
        self.fail(key, message or f"should be one of: {', '.join(options)}")
        return None

    def integers(self, key: str) -> tuple[int, ...] | None:
        """An integer or a sequence of them."""
        value = self.value.get(key)
        if value is None:
            return None
        items = value if isinstance(value, list) else [value]
        if all(isinstance(item, int) and not isinstance(item, bool) for item in items):
            return tuple(items)
        self.fail(key, "should be an array of integers or an integer")
        return None


def read_flag(value: Any, spot: Spot, problems: Problems) -> bool | None:
    """An entry that is true or false."""
    if value is None or isinstance(value, bool):
        return value
    problems.add(f"{spot.where} config should be a boolean value", spot.place)
    return None


def read_script(value: Any, spot: Spot, problems: Problems) -> tuple[str, ...] | None:
    """Commands: a text, or texts in sequences nested up to ten levels deep; flattened."""
    if value is None:
        return None
    return problems.shared("script", value, lambda: _read_script(value, spot, problems))


def _read_script(value: Any, spot: Spot, problems: Problems) -> tuple[str, ...] | None:
    if isinstance(value, str):
        return (value,)
    commands: list[str] = []
    if isinstance(value, list) and _flatten(value, 1, commands):
        return tuple(commands)
    levels = f"up to {MAX_SCRIPT_NESTING} levels deep"
    problems.add(f"{spot.where} config should be a string or a nested array of strings {levels}", spot.place)
    return None


def _flatten(value: list[Any], level: int, commands: list[str]) -> bool:
    if level > MAX_SCRIPT_NESTING:
        return False
    for item in value:
        if isinstance(item, str):
            commands.append(item)
        elif not isinstance(item, list) or not _flatten(item, level + 1, commands):
            return False
    return True
