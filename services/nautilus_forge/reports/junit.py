"""Reading a junit report: never more of it than is bounded, no entity, nothing from outside.

Source: GitLab lib/gitlab/ci/parsers/test/junit.rb, lib/gitlab/ci/reports/{test_suite,test_case}.rb.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAX_BYTES = 64 << 20
"""Of XML, unpacked."""
MAX_CASES = 50_000
MAX_DEPTH = 100
MAX_TEXT_CHARS = 64 << 10
"""Of one case's output."""
_CHUNK = 256 << 10
STATUSES = ("error", "failed", "success", "skipped")
"""In the order in which a report shows them."""
_BY_TAG = {"failure": "failed", "error": "error", "skipped": "skipped"}


class Unreadable(Exception):
    """The report cannot be read; the message is for people."""


@dataclass
class Case:
    """One test. `time_s`: how long it took."""

    suite: str
    name: str
    classname: str
    file: str | None = None
    time_s: float = 0.0
    status: str = "success"
    output: str | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """Cases with the same key are one test: the last one counts."""
        return self.suite, self.classname, self.name


@dataclass
class Suite:
    """All tests of the jobs of one name. `error`: why a report of them cannot be read; then nothing is counted."""

    name: str
    job_ids: list[int] = field(default_factory=list)
    error: str | None = None
    total_time_s: float = 0.0
    cases: dict[str, dict[tuple[str, str, str], Case]] = field(
        default_factory=lambda: {status: {} for status in STATUSES}
    )

    def add(self, case: Case) -> None:
        self.cases[case.status][case.key] = case
        self.total_time_s += case.time_s

    def count(self, status: str) -> int:
        return 0 if self.error else len(self.cases[status])

    @property
    def total(self) -> int:
        return sum(self.count(status) for status in STATUSES)

    def sorted_cases(self) -> list[Case]:
        """By status, within one the slowest first."""
        if self.error:
            return []
        return [
            case
            for status in STATUSES
            for case in sorted(self.cases[status].values(), key=lambda c: -c.time_s)
        ]


def read_cases(path: Path) -> list[Case]:
    """The tests in a gzipped report: of each of its documents. Blocking. Raises `Unreadable`."""
    from xml.parsers import expat

    cases: list[Case] = []
    reader = _Reader(cases)
    parser = _parser(reader)
    try:
        for chunk, is_end in _unpacked(path):
            parser.Parse(chunk, is_end)
            if is_end:
                reader = _Reader(cases)
                parser = _parser(reader)
    except expat.ExpatError as error:
        raise Unreadable(f"JUnit XML parsing failed: {error}") from error
    except OSError as error:
        raise Unreadable("JUnit XML parsing failed: the report is gone") from error
    return cases


def _parser(reader: _Reader) -> Any:
    from xml.parsers import expat

    parser = expat.ParserCreate()
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.EntityDeclHandler = reader.refuse_entity
    parser.buffer_text = True
    return parser


def _unpacked(path: Path) -> Iterator[tuple[bytes, bool]]:
    """Pieces of the gzip file's members, and whether one ends: a runner sends a member for each file."""
    size, is_open = 0, True
    with path.open("rb") as file:
        stream = zlib.decompressobj(wbits=31)
        while raw := file.read(_CHUNK):
            while raw:
                is_open = True
                try:
                    data = stream.decompress(raw, _CHUNK)
                except zlib.error as error:
                    raise Unreadable("JUnit XML parsing failed: the report is not compressed") from error
                size += len(data)
                if size > MAX_BYTES:
                    raise Unreadable(f"JUnit data parsing failed: longer than {MAX_BYTES} bytes")
                yield data, stream.eof
                raw = stream.unconsumed_tail
                if stream.eof:
                    raw, stream, is_open = stream.unused_data, zlib.decompressobj(wbits=31), False
    if is_open:
        raise Unreadable("JUnit XML parsing failed: the report is not complete")


class _Reader:
    """Follows the elements. `_names`: of the suites that are open."""

    def __init__(self, cases: list[Case]) -> None:
        self.cases = cases
        self._path: list[str] = []
        self._names: list[str] = []
        self._case: Case | None = None
        self._parts: list[str] | None = None
        self._message = ""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if len(self._path) >= MAX_DEPTH:
            raise Unreadable("JUnit data parsing failed: nested too deeply")
        parent = self._path[-1] if self._path else None
        self._path.append(tag)
        if tag in ("testsuite", "testsuites") and self._case is None:
            self._names.append(attributes.get("name", ""))
        elif tag == "testcase" and parent in ("testsuite", "testsuites"):
            self._begin(attributes)
        elif tag in _BY_TAG and parent == "testcase" and self._case is not None:
            self._outcome(tag, attributes)

    def _begin(self, attributes: dict[str, str]) -> None:
        if len(self.cases) >= MAX_CASES:
            raise Unreadable(f"JUnit data parsing failed: more than {MAX_CASES} test cases")
        self._case = Case(
            suite=self._names[-1] if self._names else "",
            name=attributes.get("name", ""),
            classname=attributes.get("classname", ""),
            file=attributes.get("file"),
            time_s=_seconds(attributes.get("time")),
        )

    def _outcome(self, tag: str, attributes: dict[str, str]) -> None:
        """A failure counts before an error, an error before a skip, whatever the order."""
        assert self._case is not None
        order = ("success", "skipped", "error", "failed")
        if order.index(_BY_TAG[tag]) > order.index(self._case.status):
            self._case.status, self._parts = _BY_TAG[tag], []
            self._message = attributes.get("message", "")[:MAX_TEXT_CHARS]

    def text(self, data: str) -> None:
        if self._parts is not None:
            self._parts.append(data[: MAX_TEXT_CHARS - sum(map(len, self._parts))])

    def end(self, tag: str) -> None:
        self._path.pop()
        if self._case is None:
            if tag in ("testsuite", "testsuites") and self._names:
                self._names.pop()
        elif tag == "testcase":
            self.cases.append(self._case)
            self._case = None
        elif tag in _BY_TAG and self._parts is not None:
            self._case.output = "".join(self._parts).strip("\n") or self._message or None
            self._parts = None

    def refuse_entity(self, *_: Any) -> None:
        raise Unreadable("JUnit XML parsing failed: entities are not allowed")


def _seconds(text: str | None) -> float:
    try:
        seconds = float((text or "0").replace(",", ""))
    except ValueError:
        return 0.0
    return seconds if 0 <= seconds < 1e9 else 0.0
