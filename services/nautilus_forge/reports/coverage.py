"""The coverage that a job's log tells, by the regular expression of `coverage:`.

Source: GitLab lib/gitlab/ci/trace/stream.rb (`extract_coverage`), doc/ci/testing/code_coverage/_index.md.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from nautilus_forge.ci.budget import Budget, BudgetExhausted

log = logging.getLogger(__name__)

MAX_LOG_BYTES = 1 << 20
"""From the end of a log; what stands before is not looked at."""
MAX_LINE_CHARS = 4096
_UNITS = 1_000_000
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_TIMESTAMP = re.compile(
    r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]\.[0-9]{6}Z [0-9a-f]{2}[EO][+ ]"
)
_TIMESTAMP_CHARS = 32


def coverage_of(log_path: Path, pattern: str) -> float | None:
    """The number in the last line that the pattern is found in; None where there is none. Blocking, and bounded."""
    from nautilus_forge.ci.regex import InvalidRegex, compile_pattern
    from nautilus_forge.ci.regex.capturing import Capturing

    budget = Budget(_UNITS)
    try:
        finds, captures = compile_pattern(pattern), Capturing(pattern)
        for line in reversed(_last_lines(log_path)):
            if not finds.search(line, budget):
                continue
            taken = [text for groups in captures.scan(line, budget) for text in groups]
            number = _NUMBER.search(taken[-1] or "") if taken else None
            if number is not None:
                return float(number[0][:15])
    except (InvalidRegex, BudgetExhausted) as error:
        log.info("no coverage in %s: %s", log_path.name, error)
    return None


def _last_lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MAX_LOG_BYTES))
            data = file.read(MAX_LOG_BYTES)
    except FileNotFoundError:
        return []
    lines = data.decode("utf-8", "replace").split("\n")
    if len(data) < size:
        del lines[0]
    has_timestamps = any(_TIMESTAMP.match(line) for line in lines[:1])
    begin = _TIMESTAMP_CHARS if has_timestamps else 0
    return [line.rstrip("\r")[begin : begin + MAX_LINE_CHARS] for line in lines]
