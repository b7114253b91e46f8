"""HOME/etc/nautilus.toml: settings that `nautilus config set` wrote, one `NAME = "text"` a line. No secrets."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping
from pathlib import Path

from nautilus.appliance.errors import SettingError
from nautilus.appliance.files import replace_public

_HEAD = "# Settings of this appliance; the environment wins. `nautilus config set NAME VALUE` writes it.\n"


def read_settings_file(path: Path) -> tuple[dict[str, str], list[str]]:
    """Text by name, and a line for each thing that is wrong with the file. No file: nothing, and nothing wrong.

    The same where its folder cannot be entered: whoever needs that folder says so.
    """
    try:
        if not path.exists():
            return {}, []
    except PermissionError:
        return {}, []
    import tomllib

    try:
        raw = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        return {}, [f"{path} cannot be read ({' '.join(str(error).split())}): mend it or remove it"]
    found: dict[str, str] = {}
    problems = []
    for name, value in raw.items():
        if isinstance(value, bool):
            found[name] = "on" if value else "off"
        elif isinstance(value, str | int):
            found[name] = str(value).strip()
        elif isinstance(value, list) and all(isinstance(part, str) for part in value):
            found[name] = ",".join(value)
        else:
            problems.append(f"{name} in {path}: use text, a whole number, true or false, or a list of texts")
    return found, problems


def change_settings_file(path: Path, name: str, text: str) -> None:
    """Sets or, with '', removes one value; the file is replaced as a whole. Two writers at once do not lose one.

    Raises OSError, and SettingError where the file that is there cannot be read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stored, problems = read_settings_file(path)
        if problems:
            raise SettingError("\n".join(problems))
        stored.pop(name, None)
        replace_public(path, settings_file_text(stored | ({name: text} if text else {})))


def settings_file_text(settings: Mapping[str, str]) -> str:
    """The file with these values. Pure."""
    lines = [f"{name} = {json.dumps(text, ensure_ascii=False)}\n" for name, text in sorted(settings.items())]
    return _HEAD + "".join(lines)
