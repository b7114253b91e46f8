"""Editing `config.toml` in place: registrations are added and removed as text, so comments and order stay.

The result is parsed before it replaces the file: a file that can't be edited safely is left as it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nautilus_runner.errors import ConfigurationError
from nautilus_runner.settings import RunnerSettings, Settings, parse_settings

_HEADER = re.compile(r"^\s*\[\[\s*runners\s*\]\]\s*(#.*)?$")
_OTHER_TABLE = re.compile(r"^\s*\[(?!\[\s*runners\s*\]\]|\s*runners\s*\.)")
_NEW_FILE = """\
# nautilus-runner: docs/reference/runner.md
concurrent = 1
status_file = {status}
data_dir = {data}
"""


def runner_block(fields: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]]) -> str:
    """TOML text of one `[[runners]]` entry and its sub-tables."""
    lines = ["[[runners]]", *(f"{key} = {_value(value)}" for key, value in fields.items())]
    for name, table in tables.items():
        if table:
            lines += ["", f"[runners.{name}]", *(f"{key} = {_value(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def add_runner(path: Path, block: str, machine: Mapping[str, Any] | None = None) -> Settings:
    """Append an entry, and set keys of the file itself; it is made where there is none. Raises ConfigurationError."""
    with _locked(path):
        text = _read(path)
        if text is None:
            folder = path.absolute().parent
            text = _NEW_FILE.format(status=_value(str(folder / "status.json")), data=_value(str(folder)))
        for key, value in (machine or {}).items():
            text = with_key(text, key, value)
        return _replace(path, text.rstrip("\n") + "\n\n" + block)


def with_key(text: str, key: str, value: Any) -> str:
    """The text with a key of the file itself set: in its place, or before the first table. Pure."""
    lines = text.splitlines(keepends=True)
    head = next((n for n, line in enumerate(lines) if line.lstrip().startswith("[")), len(lines))
    new = f"{key} = {_value(value)}\n"
    for number in range(head):
        if re.match(rf"\s*{re.escape(key)}\s*=", lines[number]):
            return "".join([*lines[:number], new, *lines[number + 1 :]])
    last = max((n for n in range(head) if lines[n].strip()), default=-1)
    return "".join([*lines[: last + 1], new, *lines[last + 1 :]])


def remove_runner(path: Path, index: int) -> Settings:
    """Remove the `index`-th entry (from 0) with its sub-tables. Raises ConfigurationError."""
    with _locked(path):
        text = _read(path) or ""
        before = parse_settings(text, path.absolute().parent)
        lines = text.splitlines(keepends=True)
        starts = [number for number, line in enumerate(lines) if _HEADER.match(line)]
        if len(starts) != len(before.runners) or index >= len(starts):
            raise ConfigurationError(f"{path}: the entries can't be told apart; edit the file by hand")
        start = starts[index]
        following = range(start + 1, len(lines))
        end = next(
            (n for n in following if _HEADER.match(lines[n]) or _OTHER_TABLE.match(lines[n])), len(lines)
        )
        after = parse_settings("".join(lines[:start] + lines[end:]), path.absolute().parent)
        if after.runners != before.runners[:index] + before.runners[index + 1 :]:
            raise ConfigurationError(f"{path}: the entries can't be told apart; edit the file by hand")
        return _replace(path, "".join(lines[:start] + lines[end:]))


def find_runner(settings: Settings, name: str, url: str, token: str) -> tuple[int, RunnerSettings]:
    """The one entry that fits what is given. Raises ConfigurationError where none or several do."""
    found = [
        (index, runner)
        for index, runner in enumerate(settings.runners)
        if (not name or runner.name == name)
        and (not url or runner.url == url.rstrip("/"))
        and (not token or runner.token.get_secret_value() == token)
    ]
    if len(found) != 1:
        known = ", ".join(runner.label for runner in settings.runners) or "none"
        raise ConfigurationError(
            f"{'no' if not found else 'more than one'} registration fits; the file has: {known}"
        )
    return found[0]


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} can't be read: {error}") from error


def _replace(path: Path, text: str) -> Settings:
    settings = parse_settings(text, path.absolute().parent)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(fd)
    part.rename(path)
    return settings


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (path.parent / f".{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise ConfigurationError(f"{path} can't be written: {error}") from error
