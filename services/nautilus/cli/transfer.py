"""nautilus export, nautilus import: an appliance's whole content into a folder and out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nautilus.appliance import folders
from nautilus.appliance.omnibus.package import Omnibus
from nautilus.appliance.settings import ApplianceSettings
from nautilus.appliance.transfer.manifest import Manifest
from nautilus.cli.output import CommandError, emit, progress_console

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def export(
    folder: Annotated[
        Path, typer.Argument(help="A new or empty folder; holds secrets, so only you may read it.")
    ],
    as_json: Json = False,
) -> None:
    """Write everything that this appliance holds into a folder: databases, repositories, artifacts, secrets.

    A running appliance stops serving for the time and goes on after it; jobs keep running.
    """
    from nautilus.appliance.transfer import exporting

    settings = ApplianceSettings.from_environment()
    target = folder.expanduser().absolute()
    if exporting.is_inside(target, settings.home):
        raise CommandError(f"{target} lies inside of the data folder: name one outside of it", 2)
    console = progress_console()
    was_running = folders.is_locked(settings.layout)
    manifest = exporting.export(
        settings.layout, Omnibus(settings.omnibus_root), target, lambda word: console.print(f"  {word}")
    )

    def show() -> None:
        print(f"Exported to {target}: {_words(manifest)}")
        if was_running:
            print("The appliance starts serving again; `nautilus status` tells when it is ready.")

    emit(_summary(target, manifest), as_json, show)


def import_(
    folder: Annotated[Path, typer.Argument(help="What `nautilus export` wrote.")], as_json: Json = False
) -> None:
    """Fill an empty data folder (NAUTILUS_HOME) with an export; then start it with `nautilus up`."""
    from nautilus.appliance.transfer import importing

    settings = ApplianceSettings.from_environment()
    source = folder.expanduser().absolute()
    console = progress_console()
    manifest = importing.import_export(
        settings.layout,
        settings.edition,
        Omnibus(settings.omnibus_root),
        source,
        lambda word: console.print(f"  {word}"),
    )
    emit(
        _summary(source, manifest),
        as_json,
        lambda: print(f"Imported into {settings.home}: {_words(manifest)}. {_next_step(settings)}"),
    )


def _summary(folder: Path, manifest: Manifest) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "edition": manifest.edition,
        "postgres_major": manifest.postgres_major,
        "created_at": manifest.created_at,
        "files": len(manifest.entries),
        "bytes": sum(entry.size_bytes for entry in manifest.entries),
    }


def _next_step(settings: ApplianceSettings) -> str:
    return "Start a container on that volume." if settings.in_image else "Start it with `./nautilus up`."


def _words(manifest: Manifest) -> str:
    mib = sum(entry.size_bytes for entry in manifest.entries) / 2**20
    return (
        f"{len(manifest.entries)} files, {mib:.1f} MiB, {manifest.edition} edition of {manifest.created_at}"
    )
