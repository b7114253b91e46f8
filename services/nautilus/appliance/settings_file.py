"""HOME/etc/nautilus.toml: settings that `nautilus config set` wrote, one `NAME = "text"` a line. No secrets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

_HEAD = "# Settings of this appliance; the environment wins. `nautilus config set NAME VALUE` writes it.\n"


def read_settings_file(path: Path) -> tuple[dict[str, str], list[str]]:
    """Text by name, and a line for each thing that is wrong with the file. No file: nothing, and nothing wrong."""
    if not path.exists():
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


def settings_file_text(settings: Mapping[str, str]) -> str:
    """The file with these values. Pure."""
    lines = [f"{name} = {json.dumps(text, ensure_ascii=False)}\n" for name, text in sorted(settings.items())]
    return _HEAD + "".join(lines)
