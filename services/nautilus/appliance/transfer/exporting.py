"""`nautilus export FOLDER`: everything that the appliance holds, whole or not at all.

While it runs nothing may write: a running appliance's services are stopped, but for PostgreSQL and the runner, whose
jobs go on and wait for the server; they are started again whatever happens. One that does not run is read with a
PostgreSQL of our own, so an image that is not to be used any more can still export.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from nautilus.appliance import folders
from nautilus.appliance.accounts import ensure_accounts
from nautilus.appliance.edition import Edition, has_data, read_made
from nautilus.appliance.errors import TransferFailed
from nautilus.appliance.files import sync
from nautilus.appliance.layout import Layout
from nautilus.appliance.omnibus import package as omnibus
from nautilus.appliance.omnibus.package import Omnibus
from nautilus.appliance.postgres import binaries_for, installed_binaries
from nautilus.appliance.supervisor import Supervisor
from nautilus.appliance.transfer import content
from nautilus.appliance.transfer.archive import pack
from nautilus.appliance.transfer.locking import held
from nautilus.appliance.transfer.manifest import Entry, Manifest, entry_of, write_manifest
from nautilus.appliance.transfer.server import Server, temporary_server

_KEEP_RUNNING = {"postgres", "runner", "provision"}
_DOORS = ("gateway", "sshd")
"""Closed first, so that nobody is cut off in the middle of a write; opened last."""
_UNFINISHED = ".unfinished"

Tell = Callable[[str], None]


def export(layout: Layout, package: Omnibus, folder: Path, tell: Tell) -> Manifest:
    """Raises TransferFailed (and what the parts raise); `folder` is then as it was."""
    if not has_data(layout):
        raise TransferFailed(
            f"{layout.home} holds no appliance's data: set NAUTILUS_HOME to the folder that does"
        )
    was_there = folder.exists()
    if was_there and (not folder.is_dir() or any(folder.iterdir())):
        raise TransferFailed(f"{folder} is not empty: name a new folder, or an empty one")
    work = folder / _UNFINISHED
    work.mkdir(mode=0o700, parents=True)
    folder.chmod(0o700)
    try:
        with quiet_server(layout, tell) as server:
            manifest = _write(layout, package, server, work, tell)
    except BaseException as error:
        shutil.rmtree(folder if not was_there else work, ignore_errors=True)
        if isinstance(error, OSError):
            raise TransferFailed(
                f"{error.filename or folder}: {error.strerror}; nothing was exported"
            ) from error
        raise
    for entry in sorted(work.iterdir()):
        entry.rename(folder / entry.name)
    work.rmdir()
    write_manifest(folder, manifest)
    return manifest


@contextmanager
def quiet_server(layout: Layout, tell: Tell) -> Iterator[Server]:
    """The database server while nothing else of the appliance writes."""
    binaries = binaries_for(layout.postgres, installed_binaries())
    if not folders.is_locked(layout):
        with held(layout), temporary_server(layout, layout.postgres, binaries, ensure_accounts()) as server:
            yield server
        return
    supervisor = Supervisor(layout)
    running = [p.name for p in supervisor.programs() if p.pids and p.name not in _KEEP_RUNNING]
    running.sort(key=lambda name: name not in _DOORS)
    stopped: list[str] = []
    try:
        for name in running:
            tell(f"stopping {name}")
            stopped.append(name)
            supervisor.stop(name)
        yield Server(binaries, layout.postgres_socket_dir)
    finally:
        for name in reversed(stopped):
            tell(f"starting {name}")
            supervisor.start(name)


def _write(layout: Layout, package: Omnibus, server: Server, work: Path, tell: Tell) -> Manifest:
    made = read_made(layout)
    edition = Edition(made.edition) if made else Edition.LITE
    entries: list[Entry] = []
    for name in content.databases(edition):
        tell(f"database {name}")
        path = _beside(work, "databases", f"{name}.dump")
        server.dump(name, path)
        entries.append(entry_of(work, "database", name, path))
    for tree in content.trees(layout, edition, package):
        tell(f"{tree.folder}")
        path = _beside(work, tree.kind, f"{tree.name}.tar")
        path.touch(mode=0o600)
        pack(tree.folder, path, tree.leaves_out)
        entries.append(entry_of(work, tree.kind, tree.name, path))
    for kind in work.iterdir():
        sync(kind)
    return Manifest(
        edition=edition,
        postgres_major=server.binaries.major,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        schemas=_schemas(server, edition),
        gitlab=package.version() if edition is Edition.FULL else "",
        entries=entries,
    )


def _beside(work: Path, kind: str, name: str) -> Path:
    """A file of that kind, in a folder named for it."""
    folder = work / kind
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / name


def _schemas(server: Server, edition: Edition) -> dict[str, str]:
    """The revision of each database of ours; GitLab keeps its own account."""
    import psycopg

    from nautilus.appliance.schema import current

    found: dict[str, str] = {}
    for name in content.databases(edition):
        if name != omnibus.DATABASE:
            with psycopg.connect(f"{server.conninfo} dbname={name}") as connection:
                found[name] = current(connection) or ""
    return found


def is_inside(folder: Path, home: Path) -> bool:
    """Whether an export into `folder` would try to hold itself."""
    return os.path.commonpath([folder.resolve(), home.resolve()]) == str(home.resolve())
