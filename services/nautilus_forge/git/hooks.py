"""Installing the hooks that all repositories share (`core.hooksPath`)."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from nautilus_forge.forge import Forge

NAMES = ("pre-receive", "post-receive")
_SOURCE = Path(__file__).with_name("hook.py")


def install(hooks_dir: Path, interpreter: str = sys.executable) -> None:
    """Write the script under each hook's name, whole or not at all; what stands there is replaced."""
    text = _SOURCE.read_text(encoding="utf-8").split("\n", 1)[1]
    hooks_dir.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        making = hooks_dir / f".{name}.new"
        making.write_text(f"#!{interpreter} -IS\n{text}", encoding="utf-8")
        making.chmod(0o755)
        making.rename(hooks_dir / name)


async def ensure_hooks(forge: Forge) -> None:
    """A start-up step: the hooks stand, and nothing of an earlier run lies about."""
    await forge.repositories.clear_leftovers()
    await asyncio.to_thread(install, forge.settings.hooks_dir)
