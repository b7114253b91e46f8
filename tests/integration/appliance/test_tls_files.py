"""What boot makes true for TLS: the own CA made once, a user's files refused with reasons, further CAs trusted."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest

from nautilus.appliance.accounts import Accounts, ensure_accounts
from nautilus.appliance.certificates import issue_ca
from nautilus.appliance.errors import SettingError
from nautilus.appliance.executor import Choice
from nautilus.appliance.plan import Plan, make_plan
from nautilus.appliance.settings import ApplianceSettings
from nautilus.appliance.tls import certificate_names, ensure_tls, ensure_trust, trust_environment
from nautilus_gateway.testing.certificates import self_signed

CHOICE = Choice("docker", "there", "img", "net", ("nautilus:172.18.0.2",), "nautilus")


@pytest.fixture
def who() -> Accounts:
    return ensure_accounts()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("secrets", "tls", "etc"):
        (tmp_path / name).mkdir()
    return tmp_path


def planned(home: Path, **more: object) -> tuple[ApplianceSettings, Plan]:
    given = {"tls": "own-ca", "external_url": "https://ml.example.org", "in_image": True} | more
    settings = ApplianceSettings(home, **given)  # type: ignore[arg-type]
    return settings, make_plan(settings, None, CHOICE)


def test_the_own_ca_is_made_once_and_its_keys_are_private(home: Path, who: Accounts) -> None:
    settings, plan = planned(home)
    tls = ensure_tls(settings, plan, who)
    assert tls is not None
    before = {path: path.read_bytes() for path in (settings.layout.ca_certificate, tls.certificate, tls.key)}

    assert ensure_tls(settings, plan, who) == tls
    assert {path: path.read_bytes() for path in before} == before
    for name in ("tls_ca_key.pem", "tls_server_key.pem"):
        assert settings.layout.secret(name).stat().st_mode & 0o777 == 0o600


def test_another_name_makes_another_certificate_of_the_same_ca(home: Path, who: Accounts) -> None:
    settings, plan = planned(home)
    first = ensure_tls(settings, plan, who)
    assert first is not None
    ca, certificate = settings.layout.ca_certificate.read_bytes(), first.certificate.read_bytes()

    settings, plan = planned(home, tls_names=("ml.internal", "192.0.2.7"))
    ensure_tls(settings, plan, who)

    assert settings.layout.ca_certificate.read_bytes() == ca
    assert first.certificate.read_bytes() != certificate


def test_the_certificate_is_for_people_jobs_and_this_machine(home: Path) -> None:
    settings, plan = planned(
        home, tls_names=("ml.internal",), gitlab_external_url="https://git.example.org:10080"
    )
    names = certificate_names(settings, plan)
    wanted = {
        "ml.example.org",
        "git.example.org",
        "ml.internal",
        "nautilus",
        "172.18.0.2",
        "localhost",
        "127.0.0.1",
        "::1",
    }
    assert wanted <= set(names)
    assert names[0] == "ml.example.org"


def test_files_that_do_not_fit_are_refused_all_at_once(home: Path, who: Accounts) -> None:
    self_signed(home, "DNS:other.example.org", days=90)
    self_signed(home, "DNS:ml.example.org", days=90, stem="mine")
    files = {"tls": None, "tls_certificate": home / "server.pem", "tls_key": home / "mine.key"}
    settings, plan = planned(home, **files)
    with pytest.raises(SettingError) as refused:
        ensure_tls(settings, plan, who)
    key, name = str(refused.value).splitlines()
    assert "NAUTILUS_TLS_KEY" in key and "not for ml.example.org" in name


def test_files_that_fit_are_served_where_they_lie(home: Path, who: Accounts) -> None:
    made = self_signed(home, "DNS:ml.example.org", days=90)
    settings, plan = planned(home, tls=None, tls_certificate=made.certificate, tls_key=made.key)
    assert ensure_tls(settings, plan, who) == made


def test_the_bundle_holds_the_systems_the_own_and_the_given_cas(home: Path, who: Accounts) -> None:
    given = home / "company.crt"
    given.write_bytes(issue_ca("Company").certificate)
    settings, plan = planned(home, ca_file=given)
    ensure_tls(settings, plan, who)
    ensure_trust(settings, plan)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=plan.ca_bundle)
    subjects = {dict(part[0] for part in one["subject"]).get("commonName") for one in context.get_ca_certs()}  # type: ignore[misc, union-attr]
    assert {"Company", "Nautilus CA of ml.example.org"} <= subjects
    assert len(subjects) > 20, "the system's"
    assert Path(plan.ca_bundle).stat().st_mode & 0o777 == 0o644
    assert set(trust_environment(plan).values()) == {plan.ca_bundle}


def test_without_anything_added_there_is_no_bundle(home: Path) -> None:
    settings, plan = planned(home, tls=None, external_url="http://ml.example.org", in_image=False)
    settings.layout.ca_bundle.write_text("of another time")
    ensure_trust(settings, plan)
    assert not settings.layout.ca_bundle.exists()
    assert trust_environment(plan) == {}


def test_a_ca_file_without_a_certificate_stops_the_start(home: Path) -> None:
    (home / "company.crt").write_text("nothing")
    settings, plan = planned(home, ca_file=home / "company.crt")
    with pytest.raises(SettingError, match="NAUTILUS_CA_FILE"):
        ensure_trust(settings, plan)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_key_that_may_not_be_read_is_refused(home: Path, who: Accounts) -> None:
    made = self_signed(home, "DNS:ml.example.org", days=90)
    made.key.chmod(0)
    settings, plan = planned(home, tls=None, tls_certificate=made.certificate, tls_key=made.key)
    with pytest.raises(SettingError, match="Permission denied"):
        ensure_tls(settings, plan, who)
