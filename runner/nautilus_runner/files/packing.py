"""Choosing files of a job's tree and putting them into an archive, in one pass and without following links.

Source: gitlab-runner 19.x `commands/helpers/file_archiver.go`, `helpers/archives/zip_create.go`, `gzip_create.go`.
"""

from __future__ import annotations

import gzip
import re
import struct
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Protocol

from nautilus_runner.errors import ArchiveError, PathError
from nautilus_runner.files import patterns
from nautilus_runner.files.tree import Tree, TreeEntry

_COPY = 1 << 20
_ZIP64_FROM = 1 << 30
_EPOCH_1980 = (1980, 1, 1, 0, 0, 0)
LEVELS = {"fastest": 1, "fast": 3, "default": 6, "slow": 7, "slowest": 9}


class _Writable(Protocol):
    def write(self, data: bytes, /) -> int: ...


@dataclass(frozen=True, slots=True)
class Rules:
    """What to take. Patterns may be absolute below `root`; `tracked`, for `untracked`: the files that
    git knows, and the folders (`a/`) of submodules."""

    root: str
    paths: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    untracked: bool = False
    tracked: frozenset[str] = frozenset()


@dataclass(slots=True)
class Report:
    """What was found, in the words of gitlab-runner; `count` files, folders and links are in the archive."""

    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    count: int = 0


def pack(tree: Tree, rules: Rules, out: IO[bytes], archive_format: str, level: str = "fast") -> Report:
    """Write the chosen files to `out` (seekable). Blocking.

    zip: all of them with modes, times and links; gzip: each file a member of its own, one after the other; raw:
    exactly one file, as it is. Raises ArchiveError (raw with several files).
    """
    report = Report()
    chosen = _chosen(tree, rules, report)
    if archive_format == "zip":
        _write_zip(chosen, out, LEVELS.get(level, LEVELS["fast"]), report)
    elif archive_format == "gzip":
        _write_gzip(chosen, out, report)
    else:
        _write_raw(chosen, out, report)
    report.warnings += getattr(tree, "refused", [])
    return report


def _chosen(tree: Tree, rules: Rules, report: Report) -> Iterator[TreeEntry]:
    seen: set[str] = set()
    excluded: dict[str, int] = {}
    excludes = _excludes(rules, report)
    for pattern in rules.paths:
        found = 0
        try:
            for entry in _matching(tree, patterns.relative(pattern, rules.root)):
                if _is_excluded(entry.path, excludes, excluded):
                    continue
                found += 1
                if entry.path not in seen:
                    seen.add(entry.path)
                    yield entry
        except (PathError, OSError) as error:
            report.warnings.append(f"{pattern}: {error}")
            continue
        _tell_found(pattern, found, rules.root, report)
    if rules.untracked:
        yield from _untracked(tree, rules, seen, excludes, excluded, report)
    report.lines += [f"{rule}: excluded {count} files" for rule, count in excluded.items()]


def _matching(tree: Tree, pattern: str) -> Iterator[TreeEntry]:
    """Entries that match, and everything below a folder that does."""
    matches = patterns.compiled(pattern).match
    inside: str | None = None
    for entry in tree.walk(patterns.static_base(pattern)):
        if inside is not None and entry.path.startswith(inside):
            yield entry
        elif matches(entry.path):
            inside = f"{entry.path}/" if entry.is_folder else None
            yield entry


def _untracked(
    tree: Tree,
    rules: Rules,
    seen: set[str],
    excludes: list[tuple[str, re.Pattern[str]]],
    excluded: dict[str, int],
    report: Report,
) -> Iterator[TreeEntry]:
    found = 0
    repositories = tuple(
        name for name in rules.tracked if name.endswith("/")
    )  # git does not look into submodules
    for entry in tree.walk(""):
        if entry.is_folder or entry.path in rules.tracked or entry.path.split("/", 1)[0] == ".git":
            continue
        if repositories and entry.path.startswith(repositories):
            continue
        if _is_excluded(entry.path, excludes, excluded):
            continue
        found += 1
        if entry.path not in seen:
            seen.add(entry.path)
            yield entry
    if found:
        report.lines.append(f"untracked: found {found} files")
    else:
        report.warnings.append("untracked: no files")


def _excludes(rules: Rules, report: Report) -> list[tuple[str, re.Pattern[str]]]:
    compiled = []
    for pattern in rules.exclude:
        try:
            compiled.append((pattern, patterns.compiled(patterns.relative(pattern, rules.root))))
        except PathError as error:
            report.warnings.append(str(error))
    return compiled


def _is_excluded(path: str, excludes: list[tuple[str, re.Pattern[str]]], counts: dict[str, int]) -> bool:
    for rule, expression in excludes:
        if expression.match(path):
            counts[rule] = counts.get(rule, 0) + 1
            return True
    return False


def _tell_found(pattern: str, found: int, root: str, report: Report) -> None:
    if found:
        report.lines.append(f"{pattern}: found {found} matching artifact files and directories")
    else:
        report.warnings.append(
            f"{pattern}: no matching files. Ensure that the artifact path is relative to the working directory "
            f"({root})"
        )


def _write_zip(chosen: Iterator[TreeEntry], out: IO[bytes], level: int, report: Report) -> None:
    with zipfile.ZipFile(
        out, "w", zipfile.ZIP_DEFLATED, compresslevel=level, strict_timestamps=False
    ) as archive:
        for entry in chosen:
            info = _zip_info(entry)
            if entry.content is None:
                archive.writestr(info, entry.link.encode(errors="surrogateescape"))
            else:
                with archive.open(info, "w", force_zip64=entry.size >= _ZIP64_FROM) as member:
                    _copy(entry, member)
            report.count += 1


def _zip_info(entry: TreeEntry) -> zipfile.ZipInfo:
    stamp = time.gmtime(entry.mtime_s)[:6]
    name = entry.path.encode(errors="surrogateescape").decode(errors="replace")
    info = zipfile.ZipInfo(f"{name}/" if entry.is_folder else name, max(stamp, _EPOCH_1980))
    info.create_system = 3
    info.external_attr = (entry.mode & 0xFFFF) << 16
    if entry.is_folder:
        info.external_attr |= 0x10
    info.compress_type = zipfile.ZIP_DEFLATED if entry.content is not None else zipfile.ZIP_STORED
    if 0 <= entry.mtime_s < 1 << 31:
        info.extra = struct.pack("<HHBl", 0x5455, 5, 1, int(entry.mtime_s))
    return info


def _write_gzip(chosen: Iterator[TreeEntry], out: IO[bytes], report: Report) -> None:
    for entry in chosen:
        if entry.content is None:
            continue
        with gzip.GzipFile(entry.path, "wb", fileobj=out, mtime=int(entry.mtime_s)) as member:
            _copy(entry, member)
        report.count += 1


def _write_raw(chosen: Iterator[TreeEntry], out: IO[bytes], report: Report) -> None:
    for entry in chosen:
        if entry.content is None:
            continue
        if report.count:
            raise ArchiveError("a raw artifact is one file, and several match")
        _copy(entry, out)
        report.count += 1


def _copy(entry: TreeEntry, out: _Writable) -> None:
    """A file's content up to the size that it had when it was opened: one that grows does not grow for ever."""
    assert entry.content is not None
    left = entry.size
    while left > 0 and (data := entry.content.read(min(_COPY, left))):
        out.write(data)
        left -= len(data)
