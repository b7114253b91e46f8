"""This installation's name for itself."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path


def ensure_system_id(data_dir: Path) -> str:
    """The name, made once (`s_` and 12 hex digits, as gitlab-runner's)."""
    path = data_dir / "system_id"
    with contextlib.suppress(FileNotFoundError):
        if found := path.read_text().strip():
            return found
    made = f"s_{secrets.token_hex(6)}"
    path.write_text(made + "\n")
    return made
