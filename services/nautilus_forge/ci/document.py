"""A YAML text as plain values that remember where they were written.

The parser is libyaml (by PyYAML), which is GitLab's own (by Psych), so what is an error there is one here,
in the same words. Its events are read one by one and the limits are checked on the way: nothing larger than
the limits is ever built, and an alias costs what it stands for.

Source: GitLab's lib/gitlab/config/loader/yaml.rb, multi_doc_yaml.rb and lib/gitlab/ci/config/yaml/.
"""

from __future__ import annotations

import importlib
from typing import Any, NoReturn

from nautilus_forge.ci import scalars
from nautilus_forge.ci.model import CiConfigError, ConfigError
from nautilus_forge.ci.values import Place, Reference, YamlList, YamlMap, error_at

MAX_TEXT_BYTES = 1_000_000
MAX_DEPTH = 100
MAX_WARNINGS = 50
MAX_WEIGHT = 3_000_000
"""Of all values with aliases counted in full: characters, and 16 for each value."""

TOO_BIG = "The parsed YAML is too big"
EMPTY = "Please provide content of .gitlab-ci.yml"


def load(text: str, file: str, warnings: list[str] | None = None) -> list[Any]:
    """The documents of a YAML text. Raises `CiConfigError`: too large, not YAML, unknown alias, a date.

    `warnings` receives what GitLab would pass over in silence (a key of the first level given twice).
    """
    if len(text) > MAX_TEXT_BYTES:
        raise CiConfigError([ConfigError(TOO_BIG, file=file)])
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise CiConfigError([ConfigError("Invalid configuration format", line, 1, file)]) from error
    if size > MAX_TEXT_BYTES:
        raise CiConfigError([ConfigError(TOO_BIG, file=file)])
    if not text.strip():
        raise CiConfigError([ConfigError(EMPTY, file=file)])
    return _Builder(text, file, warnings if warnings is not None else []).documents()


class _Frame:
    """A collection that is being filled; for a mapping, `waiting` says that its key is known."""

    __slots__ = (
        "anchor",
        "before",
        "height",
        "is_map",
        "key",
        "key_place",
        "merge",
        "place",
        "tag",
        "value",
        "waiting",
    )

    def __init__(self, value: YamlMap | YamlList, event: Any, place: Place, before: int) -> None:
        self.value: Any = value
        self.is_map = isinstance(value, YamlMap)
        self.anchor: str | None = event.anchor
        self.tag: str | None = event.tag
        self.place = place
        self.before = before
        self.height = 1
        self.waiting = False
        self.merge = False
        self.key: Any = None
        self.key_place = place


class _Builder:
    """Events to values. `_scalar` is the hot path: most events are scalars."""

    def __init__(self, text: str, file: str, warnings: list[str]) -> None:
        self._text = text
        self._file = file
        self._warnings = warnings
        self._weight = 0
        self._anchors: dict[str, tuple[Any, int, int]] = {}
        """What an alias stands for, what it weighs, and how deep it is."""
        self._frames: list[_Frame] = []
        self._documents: list[Any] = []

    def documents(self) -> list[Any]:
        yaml: Any = importlib.import_module("yaml")  # here: only a process that compiles pays for it
        parser: Any = (yaml.CLoader if yaml.__with_libyaml__ else yaml.Loader)(self._text)
        take = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._open_map,
            yaml.SequenceStartEvent: self._open_list,
            yaml.MappingEndEvent: self._close,
            yaml.SequenceEndEvent: self._close,
            yaml.AliasEvent: self._alias,
        }
        end, start = yaml.StreamEndEvent, yaml.DocumentStartEvent
        try:
            event = parser.get_event()
            while type(event) is not end:
                handle = take.get(type(event))
                if handle is not None:
                    handle(event)
                elif type(event) is start:
                    self._anchors = {}
                event = parser.get_event()
        except yaml.YAMLError as error:
            raise CiConfigError([self._syntax_error(error)]) from error
        finally:
            parser.dispose()
        return self._documents

    def _scalar(self, event: Any) -> None:
        value = text = event.value
        self._weight += len(text) + 16
        if self._weight > MAX_WEIGHT:
            self._fail(TOO_BIG, None)
        plain = event.tag is None and event.implicit[0]
        if plain:
            if len(text) <= 5 or text[0] in scalars.NUMERIC_START:
                value = self._resolve(text, event)
        elif event.tag is not None:
            value = self._tagged(text, event)
        if event.anchor:
            self._anchors[event.anchor] = (value, len(text) + 16, 0)
        mark = event.start_mark
        if not self._frames:
            self._documents.append(value)
            return
        frame = self._frames[-1]
        if not frame.is_map:
            frame.value.append(value)
            frame.value.places.append((self._file, mark.line + 1, mark.column + 1))
        elif not frame.waiting:
            frame.key, frame.waiting, frame.merge = value, True, plain and text == "<<"
            frame.key_place = (self._file, mark.line + 1, mark.column + 1)
        else:
            self._set(frame, value)

    def _resolve(self, text: str, event: Any) -> Any:
        try:
            return scalars.resolve(text)
        except scalars.DateScalar as error:
            self._fail(str(error), self._place(event))

    def _tagged(self, text: str, event: Any) -> Any:
        if event.tag == "!reference":
            self._fail(f"!reference {scalars.quote(text)} is not valid", self._place(event))
        if event.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:bool"):
            return self._resolve(text, event)
        return text

    def _open_map(self, event: Any) -> None:
        self._open(YamlMap(), event)

    def _open_list(self, event: Any) -> None:
        self._open(YamlList(), event)

    def _open(self, value: YamlMap | YamlList, event: Any) -> None:
        place = self._place(event)
        if len(self._frames) >= MAX_DEPTH:
            self._fail(TOO_BIG, place)
        before = self._weight
        self._grow(16)
        self._frames.append(_Frame(value, event, place, before))
        if event.anchor:
            self._anchors.pop(event.anchor, None)

    def _close(self, event: Any) -> None:
        frame = self._frames.pop()
        value = frame.value
        if frame.tag == "!reference":
            if frame.is_map or not value or not all(isinstance(part, str) for part in value):
                self._fail(f"!reference {scalars.quote(value)} is not valid", frame.place)
            value = Reference(tuple(value), frame.place)
        if frame.anchor:
            self._anchors[frame.anchor] = (value, self._weight - frame.before, frame.height)
        self._put(value, frame.place, frame.height)

    def _alias(self, event: Any) -> None:
        if event.anchor not in self._anchors:
            self._fail(f"Unknown alias: {event.anchor}", self._place(event))
        value, weight, height = self._anchors[event.anchor]
        self._grow(weight)
        if len(self._frames) + height > MAX_DEPTH:
            self._fail(TOO_BIG, self._place(event))
        self._put(value, self._place(event), height)

    def _put(self, value: Any, place: Place, height: int) -> None:
        """Add a collection, or what an alias stands for, to where it belongs."""
        if not self._frames:
            self._documents.append(value)
            return
        frame = self._frames[-1]
        frame.height = max(frame.height, height + 1)
        if not frame.is_map:
            frame.value.append(value)
            frame.value.places.append(place)
        elif frame.waiting:
            self._set(frame, value)
        elif isinstance(value, dict | list | Reference):
            self._fail("Invalid configuration format", place)
        else:
            frame.key, frame.waiting, frame.merge, frame.key_place = value, True, False, place

    def _set(self, frame: _Frame, value: Any) -> None:
        frame.waiting = False
        target = frame.value
        if frame.merge:
            parts = [value] if isinstance(value, YamlMap) else value
            if isinstance(parts, list) and all(isinstance(part, YamlMap) for part in parts):
                for part in reversed(parts):
                    self._merge(target, part)
                return
        if len(self._frames) == 1 and frame.key in target and len(self._warnings) < MAX_WARNINGS:
            name, line = scalars.to_text(frame.key), frame.key_place[1]
            self._warnings.append(f"`{name}` is defined more than once, the last one counts (line {line})")
        target[frame.key] = value
        target.places[frame.key] = frame.key_place

    def _merge(self, target: YamlMap, source: YamlMap) -> None:
        """`<<`: as Psych does it, the merged keys win over those before it and lose to those after it."""
        self._grow(16 * len(source))
        target.update(source)
        target.places.update(source.places)

    def _grow(self, weight: int) -> None:
        self._weight += weight
        if self._weight > MAX_WEIGHT:
            self._fail(TOO_BIG, None)

    def _place(self, event: Any) -> Place:
        mark = event.start_mark
        return (self._file, mark.line + 1, mark.column + 1)

    def _fail(self, message: str, place: Place | None) -> NoReturn:
        raise CiConfigError([error_at(message, place, self._file)])

    def _syntax_error(self, error: Any) -> ConfigError:
        """Psych's wording: `(<unknown>): PROBLEM CONTEXT at line L column C`."""
        problem_mark = getattr(error, "problem_mark", None)
        if problem_mark is None:
            position = getattr(error, "position", 0) or 0
            line = self._text.count("\n", 0, position) + 1
            reason = getattr(error, "reason", None) or "invalid characters"
            return ConfigError(f"(<unknown>): {reason} at line {line} column 1", line, 1, self._file)
        mark = error.context_mark or problem_mark
        words = " ".join(part for part in (error.problem, error.context) if part)
        message = f"(<unknown>): {words} at line {mark.line + 1} column {mark.column + 1}"
        return ConfigError(message, problem_mark.line + 1, problem_mark.column + 1, self._file)
