"""Export and import with a real PostgreSQL: the same content elsewhere, whole or not at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from nautilus.appliance.accounts import Accounts
from nautilus.appliance.edition import Edition, Made, read_made, write_made
from nautilus.appliance.errors import AlreadyRunning, TransferFailed
from nautilus.appliance.folders import ensure_home
from nautilus.appliance.layout import Layout
from nautilus.appliance.omnibus.database import ensure_gitlab_database
from nautilus.appliance.omnibus.package import Omnibus
from nautilus.appliance.postgres import ensure_access_rules, initdb_argv, installed_binaries
from nautilus.appliance.schema import ensure_schema
from nautilus.appliance.transfer import content, exporting, importing
from nautilus.appliance.transfer.locking import held
from nautilus.appliance.transfer.server import Server, temporary_server
from nautilus.testing.omnibus.package import here

TOLD: list[str] = []


def tell(word: str) -> None:
    TOLD.append(word)


def as_service(who: Accounts, argv: list[str]) -> None:
    is_root = os.geteuid() == 0
    subprocess.run(
        argv,
        check=True,
        capture_output=True,
        cwd="/",
        user=who.service_uid if is_root else None,
        group=who.service_gid if is_root else None,
        extra_groups=[] if is_root else None,
    )


def fill(layout: Layout, who: Accounts, edition: Edition) -> None:
    """An appliance's data as it is after some use, made without booting one."""
    ensure_home(layout, who)
    binaries = installed_binaries()[0]
    as_service(who, [*initdb_argv(binaries, layout.postgres), "--no-sync"])
    ensure_access_rules(layout.postgres, [who.service, "root"])
    with temporary_server(layout, layout.postgres, binaries, who) as server:
        for name, service in (("nautilus", "management"), ("forge", "forge")):
            if service in edition.services:
                server.make_database(name)
                ensure_schema(f"{server.conninfo} dbname={name}", service)
                note(server, name, f"in {name}")
        if edition is Edition.FULL:
            ensure_gitlab_database(server.conninfo)
            note(server, "gitlabhq_production", "in gitlab", role="gitlab")
    write_made(layout, Made(edition, binaries.major, "19.3.0" if edition is Edition.FULL else ""))
    (layout.forge / "repositories").mkdir()
    (layout.forge / "repositories" / "object").write_bytes(os.urandom(100_000))
    (layout.forge / "tmp").mkdir()
    (layout.forge / "tmp" / "half-an-upload").touch()
    layout.secret("root_password").write_text("a secret\n")
    layout.secret("root_password").chmod(0o600)
    if os.geteuid() == 0:
        shutil.chown(layout.secret("root_password"), who.service, who.service)
    (layout.runner / "config.toml").write_text('token = "glrt-x"\n')
    (layout.runner / "builds").mkdir()


def note(server: Server, database: str, text: str, role: str | None = None) -> None:
    with psycopg.connect(f"{server.conninfo} dbname={database}") as connection:
        if role:
            connection.execute("select set_config('role', %s, false)", (role,))
        connection.execute("create table notes (id bigserial primary key, text text)")
        connection.execute("insert into notes (text) values (%s)", (text,))


def notes(layout: Layout, who: Accounts, database: str) -> tuple[list[str], str]:
    """The texts, and the table's owner."""
    with (
        temporary_server(layout, layout.postgres, installed_binaries()[0], who) as server,
        psycopg.connect(f"{server.conninfo} dbname={database}") as connection,
    ):
        rows = connection.execute("select text from notes").fetchall()
        owner = connection.execute("select tableowner from pg_tables where tablename = 'notes'").fetchone()
    assert owner is not None
    return [str(row[0]) for row in rows], str(owner[0])


@pytest.fixture
def place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="nautilus-transfer-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def filled(service_account: Accounts) -> Iterator[dict[Edition, Layout]]:
    """One appliance's data of each edition, made once; a test gets a copy."""
    folder = Path(tempfile.mkdtemp(prefix="nautilus-transfer-", dir="/tmp"))
    folder.chmod(0o755)
    found = {edition: Layout(folder / edition) for edition in Edition}
    for edition, layout in found.items():
        fill(layout, service_account, edition)
    yield found
    shutil.rmtree(folder)


def copied(layout: Layout, home: Path) -> Layout:
    subprocess.run(["cp", "-a", str(layout.home), str(home)], check=True)
    return Layout(home)


@pytest.fixture
def lite(place: Path, filled: dict[Edition, Layout]) -> Layout:
    return copied(filled[Edition.LITE], place / "home")


@pytest.fixture
def full(place: Path, filled: dict[Edition, Layout]) -> Layout:
    return copied(filled[Edition.FULL], place / "full")


@pytest.fixture
def exported(lite: Layout, place: Path) -> Path:
    exporting.export(lite, Omnibus(place / "root"), place / "export", tell)
    return place / "export"


def brought_in(
    place: Path, export: Path, edition: Edition = Edition.LITE, root: Path | None = None
) -> Layout:
    layout = Layout(place / "other")
    importing.import_export(layout, edition, Omnibus(root or place / "root"), export, tell)
    return layout


def test_databases_files_modes_and_owners_are_the_same_elsewhere(
    lite: Layout, exported: Path, place: Path, service_account: Accounts
) -> None:
    other = brought_in(place, exported)
    assert notes(other, service_account, "forge") == (["in forge"], "nautilus")
    assert notes(other, service_account, "nautilus") == (["in nautilus"], "nautilus")
    for name in ("forge/repositories/object", "secrets/root_password", "runner/config.toml"):
        before, after = lite.home / name, other.home / name
        assert after.read_bytes() == before.read_bytes()
        assert (after.stat().st_mode, after.stat().st_uid) == (before.stat().st_mode, before.stat().st_uid)
    assert read_made(other) == read_made(lite)
    assert not (other.forge / "tmp").exists()
    assert not (other.runner / "builds").exists()
    assert not (other.home / content.UNFINISHED).exists()


def test_only_its_owner_reads_an_export(exported: Path) -> None:
    assert exported.stat().st_mode & 0o777 == 0o700
    files = [path for path in exported.rglob("*") if path.is_file() and path.name != "manifest.json"]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_gitlabs_database_comes_back_as_gitlabs(full: Layout, place: Path, service_account: Accounts) -> None:
    package = here(place / "root")
    (package.etc).mkdir(parents=True)
    package.secrets_file.write_text("{}")
    (package.var / "git-data").mkdir(parents=True)
    (package.var / "git-data" / "object").write_text("git's")
    (package.var / "postgresql").mkdir()
    manifest = exporting.export(full, package, place / "export", tell)
    assert (manifest.edition, manifest.gitlab) == ("full", "19.3.0")
    other_package = here(place / "root2")
    other = brought_in(place, place / "export", Edition.FULL, other_package.root)
    assert notes(other, service_account, "gitlabhq_production") == (["in gitlab"], "gitlab")
    assert other_package.secrets_file.read_text() == "{}"
    assert (other_package.var / "git-data" / "object").read_text() == "git's"
    assert not (other_package.var / "postgresql").exists()


def test_an_export_of_the_other_edition_or_gitlab_is_refused(
    exported: Path, full: Layout, place: Path
) -> None:
    with pytest.raises(TransferFailed, match="export of the lite edition, and here is the full one"):
        brought_in(place, exported, Edition.FULL)
    package = here(place / "root", version="19.3.0")
    with pytest.raises(TransferFailed, match="mount GitLab's volumes"):
        exporting.export(full, package, place / "export-full", tell)
    for folder in (package.etc, package.var):
        folder.mkdir(parents=True)
    exporting.export(full, package, place / "export-full", tell)
    newer = here(place / "newer", version="19.4.0")
    with pytest.raises(TransferFailed, match=r"export is of GitLab 19\.3\.0, here is 19\.4\.0"):
        brought_in(place, place / "export-full", Edition.FULL, newer.root)


def test_nothing_is_overwritten(lite: Layout, exported: Path, place: Path) -> None:
    with pytest.raises(TransferFailed, match="holds an appliance's data already"):
        importing.import_export(lite, Edition.LITE, Omnibus(place / "root"), exported, tell)
    with pytest.raises(TransferFailed, match="is not empty"):
        exporting.export(lite, Omnibus(place / "root"), exported, tell)


def test_one_changed_byte_stops_an_import_before_it_begins(exported: Path, place: Path) -> None:
    dump = exported / "databases" / "forge.dump"
    content_before = bytearray(dump.read_bytes())
    content_before[len(content_before) // 2] ^= 1
    dump.write_bytes(content_before)
    with pytest.raises(TransferFailed, match=r"forge\.dump is damaged"):
        brought_in(place, exported)
    assert not (place / "other").exists()


def test_an_export_that_fails_leaves_nothing(lite: Layout, place: Path) -> None:
    (lite.management / "elsewhere").symlink_to("/srv")
    with pytest.raises(TransferFailed, match="is a link to /srv"):
        exporting.export(lite, Omnibus(place / "root"), place / "export", tell)
    assert not (place / "export").exists()
    (place / "mounted").mkdir()
    with pytest.raises(TransferFailed):
        exporting.export(lite, Omnibus(place / "root"), place / "mounted", tell)
    assert list((place / "mounted").iterdir()) == []


def test_an_import_that_was_interrupted_begins_anew(
    exported: Path, place: Path, service_account: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(importing, "_settle", cut_off)
        brought_in(place, exported)
    assert (place / "other" / content.UNFINISHED).exists()
    other = brought_in(place, exported)
    assert notes(other, service_account, "forge")[0] == ["in forge"]


def test_a_folder_in_use_is_neither_exported_nor_filled(lite: Layout, place: Path, exported: Path) -> None:
    other = Layout(place / "other")
    other.home.mkdir()
    with held(other), pytest.raises(AlreadyRunning):
        brought_in(place, exported)


def test_a_restore_that_fails_says_why_and_may_be_tried_again(
    exported: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "verify", lambda *_: None)
    (exported / "databases" / "forge.dump").write_bytes(b"PGDMP nonsense")
    with pytest.raises(TransferFailed, match="pg_restore failed"):
        brought_in(place, exported)
    assert not (place / "other" / "postgres").exists()
