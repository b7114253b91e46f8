"""Settings of the appliance: each bad value is refused with the variable's name and what would do."""

from pathlib import Path

import pytest

from nautilus.appliance.errors import SettingError
from nautilus.appliance.settings import ApplianceSettings


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
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, value: str, hint: str) -> None:
    with pytest.raises(SettingError) as refused:
        read(**{name: value})
    assert name in str(refused.value)
    assert hint in str(refused.value)


def test_urls_lose_their_trailing_slash_and_home_its_tilde() -> None:
    settings = read(NAUTILUS_EXTERNAL_URL="https://ml.example.org/", NAUTILUS_HOME="~/data")
    assert settings.external_url == "https://ml.example.org"
    assert settings.home == Path("~/data").expanduser()
