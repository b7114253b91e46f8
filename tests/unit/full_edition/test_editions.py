"""An appliance's data is of one edition and one PostgreSQL, and the way across is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nautilus.appliance.edition import (
    Edition,
    Made,
    ensure_edition,
    read_made,
    refuse_unfinished_import,
    write_made,
)
from nautilus.appliance.errors import HomeUnusable, SettingError, WrongEdition
from nautilus.appliance.layout import Layout
from nautilus.appliance.omnibus.package import Omnibus
from nautilus.appliance.plan import Plan
from nautilus.appliance.postgres import Binaries, ensure_access_rules, server_argv
from nautilus.appliance.settings import ApplianceSettings
from nautilus.appliance.sign_in import sign_in_url
from nautilus.core.browsers import is_for_browsers
from nautilus.signin.oauth import Answer, Provider
from nautilus.testing.omnibus.package import write

SEVENTEEN = Binaries(Path("/usr/lib/postgresql/17/bin"), 17)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout(tmp_path / "home")
    found.etc.mkdir(parents=True)
    return found


def with_cluster(layout: Layout, major: int) -> None:
    layout.postgres.mkdir()
    (layout.postgres / "PG_VERSION").write_text(f"{major}\n")


def test_a_new_folder_becomes_the_images_edition(layout: Layout, tmp_path: Path) -> None:
    package = write(tmp_path / "root", Path("/python"), Path("/code"), version="19.3.1")
    ensure_edition(layout, Edition.FULL, SEVENTEEN, package)
    assert read_made(layout) == Made("full", 17, "19.3.1")


def test_a_folder_that_is_older_than_the_file_is_lite(layout: Layout) -> None:
    with_cluster(layout, 17)
    with pytest.raises(WrongEdition, match="of the lite edition, this is the full one"):
        ensure_edition(layout, Edition.FULL, SEVENTEEN, Omnibus())
    ensure_edition(layout, Edition.LITE, SEVENTEEN, Omnibus())
    assert read_made(layout) == Made("lite", 17)


@pytest.mark.parametrize("made", [Made("full", 17, "19.3.0"), Made("lite", 16)])
def test_other_data_is_refused_with_the_two_commands(layout: Layout, made: Made) -> None:
    write_made(layout, made)
    with pytest.raises(WrongEdition, match=r"nautilus export FOLDER.*nautilus import FOLDER") as refusal:
        ensure_edition(layout, Edition.LITE, SEVENTEEN, Omnibus())
    assert refusal.value.exit_code == 7
    assert read_made(layout) == made


def test_a_damaged_file_is_no_reason_to_guess(layout: Layout) -> None:
    layout.edition_file.write_text("{")
    with pytest.raises(WrongEdition, match="is damaged"):
        ensure_edition(layout, Edition.LITE, SEVENTEEN, Omnibus())


def test_an_interrupted_import_keeps_the_appliance_from_starting(layout: Layout) -> None:
    refuse_unfinished_import(layout)
    (layout.home / ".import").mkdir()
    with pytest.raises(HomeUnusable, match="run `nautilus import` again"):
        refuse_unfinished_import(layout)


def test_the_image_decides_the_edition(tmp_path: Path) -> None:
    home = {"NAUTILUS_HOME": str(tmp_path)}
    assert ApplianceSettings.from_environment(home).edition is Edition.LITE
    assert ApplianceSettings.from_environment(home | {"NAUTILUS_EDITION": "full"}).edition is Edition.FULL
    with pytest.raises(SettingError, match="NAUTILUS_EDITION='ultimate': use one of lite, full"):
        ApplianceSettings.from_environment(home | {"NAUTILUS_EDITION": "ultimate"})


def test_gitlab_has_a_socket_and_a_role_of_its_own(tmp_path: Path) -> None:
    ensure_access_rules(tmp_path, ["nautilus", "root"], has_gitlab=True)
    rules = (tmp_path / "pg_hba.conf").read_text().splitlines()
    assert rules[0] == "local gitlabhq_production gitlab peer map=gitlab"
    names = (tmp_path / "pg_ident.conf").read_text()
    assert "gitlab git gitlab\n" in names
    assert "nautilus git nautilus\n" not in names, "GitLab's user is not the superuser"
    argv = server_argv(SEVENTEEN, tmp_path, Path("/run/a"), Path("/run/b"))
    assert "unix_socket_directories=/run/a,/run/b" in argv
    assert argv[-1] == "max_locks_per_transaction=128"


def test_the_lite_edition_knows_no_gitlab_role(tmp_path: Path) -> None:
    ensure_access_rules(tmp_path, ["nautilus"])
    assert "gitlab" not in (tmp_path / "pg_hba.conf").read_text() + (tmp_path / "pg_ident.conf").read_text()


def plan(gitlab: str) -> Plan:
    return Plan({}, [], "http://ml.example.com", gitlab, "process", "", "", 1)


@pytest.mark.parametrize(
    ("edition", "gitlab", "where"),
    [
        (Edition.LITE, "http://ml.example.com:10080", "http://ml.example.com"),
        (Edition.LITE, "http://git.example.com", "http://ml.example.com"),
        (Edition.FULL, "http://ml.example.com:10080", "http://ml.example.com"),
        (Edition.FULL, "http://ml.example.com:8929", "http://ml.example.com:8929"),
        (Edition.FULL, "https://git.example.com", "https://git.example.com"),
    ],
)
def test_browsers_are_sent_where_they_can_go(edition: Edition, gitlab: str, where: str) -> None:
    settings = ApplianceSettings(home=Path("/h"), edition=edition)
    assert sign_in_url(settings, plan(gitlab)) == where


def test_a_sign_in_address_that_was_set_wins() -> None:
    settings = ApplianceSettings(home=Path("/h"), edition=Edition.FULL, sign_in_url="http://sign.example.com")
    assert sign_in_url(settings, plan("http://ml.example.com:8929")) == "http://sign.example.com"


def test_browsers_refuse_gitlabs_usual_port() -> None:
    assert not is_for_browsers("http://localhost:10080")
    assert is_for_browsers("http://localhost") and is_for_browsers("http://localhost:8929")


def test_the_file_is_read_by_whoever_asks(layout: Layout) -> None:
    write_made(layout, Made("full", 17, "19.3.0"))
    assert json.loads(layout.edition_file.read_text()) == {
        "edition": "full",
        "postgres_major": 17,
        "gitlab": "19.3.0",
    }


@pytest.mark.parametrize(
    ("pages_url", "has_pages"), [("http://ml.example.com:10080", False), ("http://ml.example.com:8929", True)]
)
async def test_no_link_leads_to_pages_that_a_browser_refuses_to_open(pages_url: str, has_pages: bool) -> None:
    def explores(*_: object) -> Answer:
        return Answer(200, b"")

    provider = Provider("http://127.0.0.1:10080", "http://ml.example.com", explores, pages_url)
    assert await provider.has_pages() is has_pages
