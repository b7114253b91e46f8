"""Installing what all repositories share: the hooks (`core.hooksPath`) and git's settings."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from nautilus_forge.forge import Forge
from nautilus_forge.git import configuration

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


def write_settings(hooks_dir: Path, git_config: Path) -> None:
    """Git's settings for all repositories, whole or not at all."""
    making = git_config.with_name(f".{git_config.name}.new")
    making.write_text(configuration.shared(hooks_dir), encoding="utf-8")
    making.rename(git_config)


async def ensure_hooks(forge: Forge) -> None:
    """A start-up step: hooks and settings stand, and nothing of an earlier run lies about."""
    await forge.repositories.clear_leftovers()
    await asyncio.to_thread(install, forge.settings.hooks_dir)
    await asyncio.to_thread(write_settings, forge.settings.hooks_dir, forge.settings.git_config)
