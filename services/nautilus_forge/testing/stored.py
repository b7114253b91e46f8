"""What lies in a folder that the forge writes and removes at the same time."""

from __future__ import annotations

import os
from pathlib import Path


def files_below(folder: Path) -> list[Path]:
    """Every file at any depth; a folder that goes away meanwhile has none (`Path.rglob` fails there)."""
    return [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]
