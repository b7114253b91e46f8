"""Archives of a commit, as `git archive` makes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True)
class ArchiveFormat:
    """`name` is git's."""

    name: str
    extension: str
    media_type: str


_FORMATS = {
    "tar": ArchiveFormat("tar", "tar", "application/x-tar"),
    "tar.gz": ArchiveFormat("tar.gz", "tar.gz", "application/gzip"),
    "tgz": ArchiveFormat("tar.gz", "tar.gz", "application/gzip"),
    "gz": ArchiveFormat("tar.gz", "tar.gz", "application/gzip"),
    "zip": ArchiveFormat("zip", "zip", "application/zip"),
}


def format_of(extension: str) -> ArchiveFormat | None:
    """None for a format that we cannot make."""
    return _FORMATS.get(extension.lower())


def name_of(project_path: str, ref: str, commit: str, folder: str) -> str:
    """`digits-main-1c5d9e2…`: file name without extension, and the folder inside the archive."""
    parts = [project_path, ref, commit] + ([folder] if folder else [])
    return re.sub(r"[^\w.-]", "-", "-".join(parts))


def argv(
    form: ArchiveFormat, name: str, commit: str, folder: str, excluded: Sequence[str] = ()
) -> tuple[str, ...]:
    """`folder` empty: everything but the `excluded` files and folders."""
    wanted = [f":(literal){folder}"] if folder else [":(top)"] if excluded else []
    paths = [*wanted, *(f":(exclude,literal){path.strip('/')}" for path in excluded)]
    return (
        "archive",
        f"--format={form.name}",
        f"--prefix={name}/",
        commit,
        *(["--", *paths] if paths else []),
    )


def disposition(kind: str, filename: str) -> str:
    """A Content-Disposition header (RFC 6266) that any file name survives."""
    plain = re.sub(r"[^\w.+ -]", "_", filename, flags=re.ASCII)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
