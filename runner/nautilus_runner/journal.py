"""What the runner must still know after it is killed: one folder per job, gone when the server has the result.

    <data_dir>/journal/<key>/journal.jsonl   one JSON object a line; the merged whole is the job's state
                             trace           the log as sent
                             …               what the executor keeps (output, exit code)

The first line holds the job as the server gave it, with its secrets: folders are 0700, files 0600. A line is on
disk (fdatasync) before the thing that it announces is done; a torn last line is as if it had not been written.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nautilus_runner.files.transfer import write_all

log = logging.getLogger(__name__)

_FILE = "journal.jsonl"


class Entry:
    """One job's memory. `state` is the merged content of its lines."""

    def __init__(self, folder: Path, state: dict[str, Any]) -> None:
        self.folder = folder
        self.state = state
        self._lock = asyncio.Lock()
        self._has_durable_folders = False

    @property
    def key(self) -> str:
        return self.folder.name

    @property
    def trace_path(self) -> Path:
        return self.folder / "trace"

    async def record(self, *, is_durable: bool = True, **fields: Any) -> None:
        """Remember `fields`; with `is_durable` they, and all before them, are on disk when this returns."""
        self.state.update(fields)
        path = self.folder / _FILE
        # in the order of the calls, whoever waits for the disk
        _append(path, _line(fields) if fields else b"")
        if is_durable:
            async with self._lock:
                await asyncio.to_thread(_sync, path)
                if not self._has_durable_folders:
                    await asyncio.to_thread(_sync_folders, self.folder)
                    self._has_durable_folders = True

    def forget(self) -> None:
        """Remove everything; the journal's file goes first, so that a half-removed entry is no entry."""
        (self.folder / _FILE).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


class Journal:
    """All entries of this machine's runner."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)

    def open(self, key: str, first: Mapping[str, Any]) -> Entry:
        """A new entry (replacing one of the same key), written but not yet durable: the next `record` makes it so."""
        folder = self._folder / key
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        entry = Entry(folder, dict(first))
        _append(folder / _FILE, _line(first))
        return entry

    def entries(self) -> Iterator[Entry]:
        """Every job that is not over. Folders without a readable first line are removed."""
        for folder in sorted(self._folder.iterdir()):
            state = _read(folder / _FILE)
            if state is None:
                log.warning("journal: %s holds no job; removed", folder.name)
                shutil.rmtree(folder, ignore_errors=True)
                continue
            yield Entry(folder, state)

    def has(self, key: str) -> bool:
        return (self._folder / key / _FILE).exists()


def entry_key(url: str, job_id: int) -> str:
    """A name for a job that is the same at each start, and differs between servers."""
    return f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{job_id}"


def _line(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def _append(path: Path, line: bytes) -> None:
    """Append the whole line, or nothing of it (a disk may take half of it and no more). Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        before = os.fstat(fd).st_size
        try:
            write_all(fd, line)
        except OSError:
            os.ftruncate(fd, before)
            raise
    finally:
        os.close(fd)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)


def _sync_folders(folder: Path) -> None:
    """The entry's folder and the one that lists it: without them the file can't be found after a power cut."""
    for path in (folder, folder.parent):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):  # torn by a crash: what the line announced was not begun
        os.truncate(path, len(whole))
    state: dict[str, Any] = {}
    for line in whole.splitlines():
        state.update(json.loads(line))
    return state if "payload" in state else None
