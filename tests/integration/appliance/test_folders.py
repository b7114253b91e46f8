"""The data folder: private where it must be, one appliance at a time, honest when it cannot be used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nautilus.appliance import folders
from nautilus.appliance.accounts import Accounts
from nautilus.appliance.errors import HomeUnusable
from nautilus.appliance.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "home")


def test_secrets_are_private_and_made_once(layout: Layout, service_account: Accounts) -> None:
    folders.ensure_home(layout, service_account)
    folders.ensure_secrets(layout, service_account)
    before = {name: layout.secret(name).read_text() for name in folders.SECRETS}
    folders.ensure_secrets(layout, service_account)
    assert {name: layout.secret(name).read_text() for name in folders.SECRETS} == before
    assert layout.secrets.stat().st_mode & 0o777 == 0o700
    assert {layout.secret(name).stat().st_mode & 0o777 for name in before} == {0o600}
    assert {layout.secret(name).owner() for name in before} == {service_account.service}
    assert all(len(value.strip()) >= 20 for value in before.values())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_an_owner_without_a_name_becomes_ours(layout: Layout, service_account: Accounts) -> None:
    layout.home.mkdir(mode=0o700)
    os.chown(layout.home, 61234, 61235)
    folders.ensure_home(layout, service_account)
    assert layout.home.owner() == service_account.service


def test_a_second_appliance_on_the_same_folder_is_refused(layout: Layout, service_account: Accounts) -> None:
    folders.ensure_home(layout, service_account)
    code = (
        "import sys; from pathlib import Path; from nautilus.appliance import folders, layout, errors\n"
        "l = layout.Layout(Path(sys.argv[1]))\n"
        "try: folders.ensure_only_one(l)\n"
        "except errors.AlreadyRunning as e: print(e); raise SystemExit(5)\n"
        "print('locked', flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", code, str(layout.home)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None and first.stdout.readline() == "locked\n"
        assert folders.is_locked(layout)
        second = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert second.returncode == 5
        assert "nautilus down" in second.stdout
        first.communicate()
    assert not folders.is_locked(layout)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, service_account: Accounts) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeUnusable, match="NAUTILUS_HOME"):
        folders.ensure_home(Layout(tmp_path / "file" / "home"), service_account)


def test_a_disk_that_is_nearly_full_stops_the_start(
    layout: Layout, service_account: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = os.statvfs("/tmp").f_bavail * os.statvfs("/tmp").f_frsize // 2**20
    monkeypatch.setattr(folders, "LEAST_FREE_MIB", free + 10**6)
    with pytest.raises(HomeUnusable, match="MiB are free"):
        folders.ensure_home(layout, service_account)


def test_a_long_path_gets_its_sockets_elsewhere(tmp_path: Path) -> None:
    layout = Layout(tmp_path / ("x" * 90))
    assert len(os.fsencode(layout.postgres_socket_dir / ".s.PGSQL.5432")) < 108
    assert Layout(tmp_path / ("x" * 90)).run == layout.run
    assert Layout(tmp_path / ("y" * 90)).run != layout.run
