"""What the runner itself says in a job's log, in gitlab-runner's words, colours and order of sections.

Source: gitlab-runner 19.x `common/buildlogger`, `helpers/build_section.go`, `common/build.go`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from nautilus_runner.trace.masking import Masker
from nautilus_runner.trace.spool import Spool

RESET = "\x1b[0;m"
CLEAR = "\x1b[0K"
BOLD_RED = "\x1b[31;1m"
BOLD_GREEN = "\x1b[32;1m"
BOLD_CYAN = "\x1b[36;1m"
YELLOW = "\x1b[0;33m"
BOLD_YELLOW = "\x1b[33;1m"


class TraceWriter:
    """Writes one job's log. Lines are masked whole; a job's output is masked as a stream (`output`)."""

    def __init__(
        self,
        spool: Spool,
        *,
        phrases: Iterable[str],
        token_prefixes: Iterable[str],
        limit_bytes: int,
        has_sections: bool = True,
    ) -> None:
        self._spool = spool
        self._phrases = tuple(phrases)
        self._prefixes = tuple(token_prefixes)
        self._limit = limit_bytes
        self._has_sections = has_sections
        self._stream: Masker | None = None
        self._is_over = False

    @property
    def size(self) -> int:
        return self._spool.size

    def hide(self, phrases: Iterable[str]) -> None:
        """More secrets, from now on."""
        self._phrases = (*self._phrases, *phrases)

    def line(self, text: str) -> None:
        """A plain line, as gitlab-runner's own statements."""
        self._write(f"{CLEAR}{text}{RESET}\n")

    def raw(self, text: str) -> None:
        """A line without colours, as the helper programs print."""
        self._write(f"{text}\n")

    def notice(self, text: str) -> None:
        self._write(f"{BOLD_GREEN}{text}{RESET}\n")

    def warning(self, text: str) -> None:
        self._write(f"{YELLOW}WARNING: {text}{RESET}\n")

    def error(self, text: str) -> None:
        self._write(f"{BOLD_RED}ERROR: {text}{RESET}\n")

    @contextmanager
    def section(self, name: str, title: str) -> Iterator[None]:
        self.open_section(name, title)
        try:
            yield
        finally:
            self.close_section(name)

    def open_section(self, name: str, title: str) -> None:
        self._mark("section_start", name)
        self._write(f"{CLEAR}{BOLD_CYAN}{title}{RESET}{RESET}\n")

    def close_section(self, name: str) -> None:
        self._mark("section_end", name)

    def output(self, data: bytes) -> None:
        """Bytes that the job printed, unchanged but for secrets; past the limit they are dropped, with a word."""
        if self._is_over:
            return
        if self._stream is None:
            self._stream = Masker(self._phrases, self._prefixes)
        self._append_output(self._stream.feed(data))

    def end_output(self) -> None:
        """The end of a stage's output: what was held back comes out."""
        if self._stream is not None:
            rest, self._stream = self._stream.flush(), None
            if not self._is_over:
                self._append_output(rest)

    def _append_output(self, data: bytes) -> None:
        room = self._limit - self._spool.size
        if len(data) <= room:
            self._spool.append(data)
            return
        self._is_over = True
        self._spool.append(data[: max(0, room)])
        self._write(
            f"\n{BOLD_YELLOW}Job's log exceeded limit of {self._limit} bytes.\n"
            f"Job execution will continue but no more output will be collected.{RESET}\n"
        )

    def _mark(self, kind: str, name: str) -> None:
        if self._has_sections:
            self._spool.append(f"{kind}:{int(time.time())}:{name}\r{CLEAR}".encode())

    def _write(self, text: str) -> None:
        masker = Masker(self._phrases, self._prefixes)
        self._spool.append(masker.feed(text.encode(errors="replace")) + masker.flush())
