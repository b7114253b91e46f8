"""What a check of `nautilus doctor` finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """`state`: ok, warning or error; `mend` says what to do, '' where nothing is."""

    check: str
    state: str
    detail: str
    mend: str = ""
