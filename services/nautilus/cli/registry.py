"""nautilus registry: the container registry's storage."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from nautilus.cli.output import emit, progress_console

if TYPE_CHECKING:
    from nautilus.appliance.registry_gc import Collected

app = typer.Typer(no_args_is_help=True)
_MIB = 1 << 20


@app.callback()
def _group() -> None:
    """The container registry."""


@app.command("gc")
def collect_garbage(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Free the storage of images that no tag leads to. The registry takes no pushes while this runs."""
    from nautilus.appliance.accounts import ensure_accounts
    from nautilus.appliance.errors import RegistryFailed
    from nautilus.appliance.registry import choose_registry
    from nautilus.appliance.registry_gc import collect
    from nautilus.appliance.settings import ApplianceSettings

    settings = ApplianceSettings.from_environment()
    choice = choose_registry(settings)
    if not choice.is_on:
        raise RegistryFailed(f"there is no container registry here: {choice.reason}")
    console = progress_console()
    began = time.monotonic()
    done = collect(
        settings.layout, ensure_accounts(), choice.program, lambda line: console.print(f"{line} …")
    )
    body = asdict(done) | {"bytes_freed": done.bytes_freed, "seconds": round(time.monotonic() - began, 1)}
    emit(body, as_json, lambda: _show(done))


def _show(done: Collected) -> None:
    typer.echo(
        f"{done.bytes_freed / _MIB:.1f} MiB freed ({done.bytes_after / _MIB:.1f} MiB left): "
        f"{done.manifests_deleted} manifests and {done.blobs_deleted} blobs of {done.repositories} repositories"
    )
