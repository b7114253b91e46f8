"""The files that a new project starts with, from `templates/<name>/`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from nautilus.gitlab.port import FileChange

_FOLDER = Path(__file__).parent / "templates"
_SKIPPED = {"__pycache__"}


@cache
def template_files(template: str) -> tuple[FileChange, ...]:
    """The template's files, by path. They are ours and text; a name that is not there is our own mistake."""
    root = _FOLDER / template
    return tuple(
        FileChange(
            str(path.relative_to(root)), path.read_text(), is_executable=path.stat().st_mode & 0o100 != 0
        )
        for path in sorted(root.rglob("*"))
        if path.is_file() and not _SKIPPED & set(path.parts)
    )
