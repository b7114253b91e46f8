"""A job's log as plain text, for readers without JavaScript: no colours, no markers, no overwritten lines."""

from __future__ import annotations

import re

_MARKER = re.compile(r"section_(?:start|end):\d+:[\w.-]+(?:\[[^\]\r\n]*\])?\r(?:\x1b\[0?K)?")
_CONTROL = re.compile(
    r"\x1b\[[0-9;:?]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
)


def plain(text: str) -> str:
    """What a terminal would leave readable of `text`.

    Source: section markers, https://docs.gitlab.com/ci/jobs/job_logs/#custom-collapsible-sections
    """
    lines = (_CONTROL.sub("", _MARKER.sub("", line)) for line in text.replace("\r\n", "\n").split("\n"))
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines)


def tail(text: str, max_lines: int) -> str:
    """The last `max_lines` lines of `text`."""
    return "\n".join(text.split("\n")[-max_lines:])
