"""`nautilus files tail -f`: growth, truncation, a file that is not there yet, and the job's end."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from nautilus.cli import following
from nautilus.cli.client import Refused


class Server:
    """Answers reads from a list of (content or status, is it kept); the job has ended when the list is empty."""

    def __init__(self, *steps: bytes | int) -> None:
        self.steps = list(steps)
        self.content = b""
        self.is_kept = False

    @contextmanager
    def stream(self, method: str, path: str, accepted: frozenset[int], **options: Any) -> Iterator[Any]:
        if self.steps:
            step = self.steps.pop(0)
            if isinstance(step, int):
                raise Refused("so it is", step)
            self.content = step
        else:
            self.is_kept = True
        yield self._answer(options["headers"]["Range"].removeprefix("bytes="))

    def _answer(self, span: str) -> httpx.Response:
        first, _, last = span.partition("-")
        start = int(first) if first else max(0, len(self.content) - int(last))
        part = self.content[start:]
        headers = {"x-file-source": "artifacts" if self.is_kept else "live"}
        if not part:
            return httpx.Response(416, headers={**headers, "content-range": f"bytes */{len(self.content)}"})
        where = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        return httpx.Response(206, content=part, headers={**headers, "content-range": where})

    def get(self, path: str) -> dict[str, str]:
        return {"state": "running" if self.steps else "succeeded"}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_RETRY_S", 0.0)


def followed(server: Server, lines: int = 10, byte_count: int | None = None) -> bytes:
    out = io.BytesIO()
    tail = following.Tail(server, "1", "log", out)  # type: ignore[arg-type]
    tail.last(lines, byte_count, is_awaited=True)
    tail.follow()
    return out.getvalue()


def test_the_last_lines_and_what_is_added_once_each() -> None:
    assert followed(Server(b"1\n2\n3\n", b"1\n2\n3\n4\n", b"1\n2\n3\n4\n5"), lines=2) == b"2\n3\n4\n5"
    assert followed(Server(b"123", b"12345"), byte_count=1) == b"345"
    assert followed(Server(b"1\n", b"1\n2\n"), lines=0) == b"2\n"


def test_a_file_that_is_cut_short_is_begun_anew() -> None:
    assert followed(Server(b"12345", b"67", b"67")) == b"1234567"


def test_a_file_that_is_not_there_yet_and_a_runner_that_is_away_are_waited_for() -> None:
    assert followed(Server(404, 503, b"1\n", 503, b"1\n2\n")) == b"1\n2\n"
    assert followed(Server(409, b"", b"x")) == b"x"


def test_what_is_refused_is_said() -> None:
    with pytest.raises(Refused):
        followed(Server(422))
    with pytest.raises(Refused):
        followed(Server(b"1", 403))
