"""`nautilus import FOLDER`: an export into an empty data folder, whole or not at all.

All is prepared below HOME/.import, the databases in a new cluster there, and only then moved to its place by renames,
the cluster last. A folder that is left from an import that was interrupted keeps the appliance from starting; the same
command begins anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from nautilus.appliance.accounts import Accounts, ensure_accounts
from nautilus.appliance.edition import Edition, Made, has_data, write_made
from nautilus.appliance.errors import TransferFailed
from nautilus.appliance.files import sync
from nautilus.appliance.folders import ensure_home
from nautilus.appliance.layout import Layout
from nautilus.appliance.omnibus.database import ensure_gitlab_database
from nautilus.appliance.omnibus.package import DATABASE, Omnibus
from nautilus.appliance.postgres import (
    DATABASES,
    Binaries,
    ensure_access_rules,
    initdb_argv,
    installed_binaries,
)
from nautilus.appliance.schema import head
from nautilus.appliance.transfer import content
from nautilus.appliance.transfer.archive import unpack
from nautilus.appliance.transfer.locking import held
from nautilus.appliance.transfer.manifest import Manifest, read_manifest, verify
from nautilus.appliance.transfer.server import temporary_server

Tell = Callable[[str], None]


def import_export(layout: Layout, edition: Edition, package: Omnibus, folder: Path, tell: Tell) -> Manifest:
    """Raises TransferFailed (and what the parts raise); HOME then holds no data, and another try may follow."""
    manifest = read_manifest(folder)
    _refuse(layout, edition, package, manifest)
    binaries = _binaries(manifest)
    tell("checking every file")
    verify(folder, manifest)
    who = ensure_accounts()
    ensure_home(layout, who)
    with held(layout):
        try:
            stage = _new_stage(layout, who)
            _unpack(manifest, folder, stage, package, who, tell)
            _restore(layout, manifest, folder, stage, binaries, who, tell)
            _settle(
                layout, stage, Made(edition, binaries.major, package.version() if manifest.gitlab else "")
            )
        except OSError as error:
            raise TransferFailed(
                f"{error.filename or layout.home}: {error.strerror}; nothing was imported"
            ) from error
    return manifest


def _refuse(layout: Layout, edition: Edition, package: Omnibus, manifest: Manifest) -> None:
    if manifest.edition != edition:
        raise TransferFailed(
            f"this is an export of the {manifest.edition} edition, and here is the {edition} one: it goes project by "
            "project (docs/how-to/export-and-import.md, Between the editions)"
        )
    if manifest.gitlab and manifest.gitlab != package.version():
        raise TransferFailed(
            f"the export is of GitLab {manifest.gitlab}, here is {package.version()}: import with an image of that "
            "very version, then upgrade"
        )
    for database, revision in manifest.schemas.items():
        if revision > head(DATABASES[database]):
            raise TransferFailed(
                f"the export is of a newer Nautilus (schema {revision} of {database}): use its image"
            )
    if has_data(layout):
        raise TransferFailed(
            f"{layout.home} holds an appliance's data already: name an empty folder as NAUTILUS_HOME"
        )
    for entry in manifest.of("gitlab"):
        place = content.gitlab_folder(entry.name, package)
        if place.is_dir() and any(place.iterdir()) and not (layout.home / content.UNFINISHED).exists():
            raise TransferFailed(f"{place} is not empty: use new volumes for an import")


def _binaries(manifest: Manifest) -> Binaries:
    found = installed_binaries()
    if not found:
        raise TransferFailed("no PostgreSQL was found: run `apt-get install postgresql`")
    if found[0].major < manifest.postgres_major:
        raise TransferFailed(
            f"the export is of PostgreSQL {manifest.postgres_major}, here is {found[0].major}: a dump goes to the same "
            "or a later version only"
        )
    return found[0]


def _new_stage(layout: Layout, who: Accounts) -> Path:
    stage = layout.home / content.UNFINISHED
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(stage, who.service_uid, who.service_gid)
    return stage


def _unpack(
    manifest: Manifest, folder: Path, stage: Path, package: Omnibus, who: Accounts, tell: Tell
) -> None:
    for entry in manifest.of("home"):
        if entry.name in (".", "..", "postgres") or "/" in entry.name:
            raise TransferFailed(f"the export names a folder that cannot be: {entry.name!r}")
        tell(f"unpacking {entry.name}")
        unpack(folder / entry.path, stage / entry.name, who.service)
    for entry in manifest.of("gitlab"):
        place = content.gitlab_folder(entry.name, package)
        tell(f"unpacking {place}")
        for left in place.iterdir() if place.is_dir() else ():
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        unpack(folder / entry.path, place, "root")


def _restore(
    layout: Layout,
    manifest: Manifest,
    folder: Path,
    stage: Path,
    binaries: Binaries,
    who: Accounts,
    tell: Tell,
) -> None:
    cluster = stage / "postgres"
    _initdb(binaries, cluster, who)
    ensure_access_rules(cluster, [who.service, "root"])
    with temporary_server(layout, cluster, binaries, who) as server:
        for entry in manifest.of("database"):
            tell(f"database {entry.name}")
            if entry.name == DATABASE:
                ensure_gitlab_database(server.conninfo)
            else:
                server.make_database(entry.name)
            server.restore(entry.name, folder / entry.path)


def _initdb(binaries: Binaries, cluster: Path, who: Accounts) -> None:
    done = subprocess.run(
        initdb_argv(binaries, cluster),
        capture_output=True,
        text=True,
        cwd="/",
        **who.service_process(),
    )
    if done.returncode != 0:
        raise TransferFailed(f"initdb failed: {done.stderr.strip() or done.stdout.strip()}")


def _settle(layout: Layout, stage: Path, made: Made) -> None:
    """Each folder to its place; the cluster last, since what has a cluster has data."""
    names = sorted(entry.name for entry in stage.iterdir() if entry.name != "postgres")
    for name in [*names, "postgres"]:
        place = layout.home / name
        if place.exists():
            shutil.rmtree(place)
        if name == "postgres":
            write_made(layout, made)
        (stage / name).rename(place)
    sync(layout.home)
    stage.rmdir()
