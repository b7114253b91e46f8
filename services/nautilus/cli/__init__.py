"""The `nautilus` command line. Each group has a module of its own; docs/reference/cli.md lists them all."""

from nautilus.cli.main import main

__all__ = ["main"]
