"""Settings of the appliance: each bad value is refused with the variable's name and what would do."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nautilus.appliance.errors import SettingError
from nautilus.appliance.settings import ApplianceSettings, tls_mode
from nautilus.appliance.settings_file import settings_file_text


def read(**environ: str) -> ApplianceSettings:
    return ApplianceSettings.from_environment(environ)


def test_nothing_is_needed() -> None:
    settings = read()
    assert settings.home.is_absolute()
    assert settings.executor == "auto"
    assert settings.web_port is None


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("NAUTILUS_PORT", "http", "whole number"),
        ("NAUTILUS_PORT", "0", "above 0"),
        ("NAUTILUS_GITLAB_PORT", "65536", "1 to 65535"),
        ("NAUTILUS_SLOTS", "-1", "whole number"),
        ("NAUTILUS_EXECUTOR", "kubernetes", "auto, process, docker"),
        ("NAUTILUS_EXTERNAL_URL", "nautilus.example.org", "http://"),
        ("NAUTILUS_EXTERNAL_URL", "https://host/nautilus", "path"),
        ("NAUTILUS_EXTERNAL_URL", "https://me:secret@host", "without a user"),
        ("NAUTILUS_EXTERNAL_URL", "http://host:99999", "1 to 65535"),
        ("NAUTILUS_EXTERNAL_URL", "https://ml.example.org", "who speaks TLS?"),
        ("NAUTILUS_SSH_HOST", "git@host", "host name"),
        ("NAUTILUS_LISTEN", "localhost", "IP address"),
        ("NAUTILUS_TRUSTED_PROXIES", "10.0.0.1/8", "addresses or networks"),
        ("NAUTILUS_DATABASE_ACCESS", "yes", "off, readonly"),
        ("NAUTILUS_TLS", "letsencrypt", "off, files, own-ca, proxy"),
        ("NAUTILUS_TLS", "files", "set NAUTILUS_TLS_CERTIFICATE"),
        ("NAUTILUS_TLS", "proxy", "NAUTILUS_TRUSTED_PROXIES"),
        ("NAUTILUS_TLS_CERTIFICATE", "cert.pem", "absolute path"),
        ("NAUTILUS_TLS_CERTIFICATE", "/cert.pem", "belong together"),
        ("NAUTILUS_HSTS", "3600", "nothing speaks TLS"),
        ("NAUTILUS_PACKAGE_INDEX", "https://me:pw@host/simple", "without a user"),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, value: str, hint: str) -> None:
    with pytest.raises(SettingError) as refused:
        read(**{name: value})
    assert name in str(refused.value)
    assert hint in str(refused.value)


def test_urls_lose_their_trailing_slash_and_home_its_tilde() -> None:
    settings = read(NAUTILUS_EXTERNAL_URL="http://ML.example.org:80/", NAUTILUS_HOME="~/data")
    assert settings.external_url == "http://ml.example.org"
    assert settings.home == Path("~/data").expanduser()


def test_every_bad_value_has_a_line_of_its_own() -> None:
    with pytest.raises(SettingError) as refused:
        read(NAUTILUS_PORT="http", NAUTILUS_SLOTS="-1")
    lines = str(refused.value).splitlines()
    assert [line.split("=")[0] for line in lines] == ["NAUTILUS_PORT", "NAUTILUS_SLOTS"]


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ({}, "off"),
        ({"NAUTILUS_TLS": "own-ca"}, "own-ca"),
        ({"NAUTILUS_EXTERNAL_URL": "https://h", "NAUTILUS_TRUSTED_PROXIES": "10.0.0.0/8"}, "proxy"),
        (
            {
                "NAUTILUS_EXTERNAL_URL": "https://h",
                "NAUTILUS_TLS_CERTIFICATE": "/c",
                "NAUTILUS_TLS_KEY": "/k",
                "NAUTILUS_TRUSTED_PROXIES": "10.0.0.0/8",
            },
            "files",
        ),
    ],
)
def test_who_speaks_tls_follows_from_what_is_given(given: dict[str, str], mode: str) -> None:
    assert tls_mode(read(**given)) == mode


@pytest.mark.parametrize("name", ["NAUTILUS_GITLAB_EXTERNAL_URL", "NAUTILUS_REGISTRY_EXTERNAL_URL"])
def test_with_tls_no_derived_address_is_plain(name: str) -> None:
    with pytest.raises(SettingError, match=name):
        read(NAUTILUS_TLS="own-ca", **{name: "http://ml.example.org:10080"})


def test_the_file_gives_what_the_environment_does_not(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "nautilus.toml").write_text(
        'NAUTILUS_SLOTS = 3\nNAUTILUS_PORT = 8500\nNAUTILUS_TRUSTED_PROXIES = ["10.0.0.0/8", "::1"]\n'
    )
    settings = read(NAUTILUS_HOME=str(tmp_path), NAUTILUS_PORT="8600")
    assert (settings.slots, settings.web_port) == (3, 8600)
    assert settings.trusted_proxies == ("10.0.0.0/8", "::1/128")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("NAUTILUS_SLOTS = [", "nautilus.toml cannot be read"),
        ("NAUTILUS_SLOTS = 1.5", "NAUTILUS_SLOTS in"),
        ('NAUTILUS_SLOTS = "many"', "nautilus.toml): use a whole number"),
    ],
)
def test_what_is_wrong_with_the_file_names_the_file(tmp_path: Path, text: str, hint: str) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "nautilus.toml").write_text(text)
    with pytest.raises(SettingError) as refused:
        read(NAUTILUS_HOME=str(tmp_path))
    assert hint in str(refused.value)


@given(st.dictionaries(st.from_regex(r"NAUTILUS_[A-Z]{1,8}", fullmatch=True), st.text(max_size=20)))
def test_the_file_is_read_as_it_was_written(settings: dict[str, str]) -> None:
    assume(all("\x7f" not in text for text in settings.values()))
    assert tomllib.loads(settings_file_text(settings)) == settings
