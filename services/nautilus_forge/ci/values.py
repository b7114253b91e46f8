"""Values that remember where they were written."""

from __future__ import annotations

from typing import Any

from nautilus_forge.ci.model import ConfigError

MAX_MESSAGE_CHARS = 2_000

Place = tuple[str, int, int]
"""File, line and column, both from 1."""


class YamlMap(dict[Any, Any]):
    """A mapping with the place of each of its keys."""

    __slots__ = ("places",)

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[Any, Place] = {}

    def duplicate(self) -> YamlMap:
        """The same items in a new mapping."""
        copy = YamlMap()
        copy.update(self)
        copy.places.update(self.places)
        return copy


class YamlList(list[Any]):
    """A sequence with the place of each of its items."""

    __slots__ = ("places",)

    def __init__(self) -> None:
        super().__init__()
        self.places: list[Place] = []

    def duplicate(self) -> YamlList:
        """The same items in a new sequence."""
        copy = YamlList()
        copy.extend(self)
        copy.places.extend(self.places)
        return copy


class Reference:
    """`!reference [a, b]`: stands for what is found at that path of the whole configuration."""

    __slots__ = ("path", "place")

    def __init__(self, path: tuple[Any, ...], place: Place) -> None:
        self.path = path
        self.place = place

    def __repr__(self) -> str:
        return f"!reference {list(self.path)}"


def place_of(container: Any, key: Any) -> Place | None:
    """Where the key of a mapping, or the item of a sequence, was written; None when it was not."""
    place: Place | None = None
    if isinstance(container, YamlMap):
        place = container.places.get(key)
    elif isinstance(container, YamlList) and key < len(container.places):
        place = container.places[key]
    return place


def error_at(message: str, place: Place | None, file: str = ".gitlab-ci.yml") -> ConfigError:
    """The error with its place, where there is one; a very long message is cut."""
    if len(message) > MAX_MESSAGE_CHARS:
        message = message[:MAX_MESSAGE_CHARS] + "…"
    if place is None:
        return ConfigError(message, file=file)
    return ConfigError(message, line=place[1], column=place[2], file=place[0])
