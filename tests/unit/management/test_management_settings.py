"""Settings come from the environment, derive from the home folder, hide secrets, and are written down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from nautilus.errors import SettingError
from nautilus.settings import Settings

DOCUMENT = Path(__file__).parents[3] / "docs" / "reference" / "internals.md"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"NAUTILUS_{name.upper()}", raising=False)


def test_every_setting_is_written_down() -> None:
    section = DOCUMENT.read_text().split("Management (`nautilus.settings`")[1].split("\n\n")[0]
    for name in Settings.model_fields:
        assert f"`{name.upper()}`" in section, name


def test_everything_derives_from_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAUTILUS_HOME", "/srv/nautilus")
    monkeypatch.setenv("NAUTILUS_EXTERNAL_URL", "https://ml.example.com/")
    monkeypatch.setenv("NAUTILUS_JOB_URL", "")
    settings = Settings.from_environment()
    assert settings.socket == Path("/srv/nautilus/run/management.sock")
    assert settings.database_url.get_secret_value().endswith("?host=/srv/nautilus/run/postgres")
    assert settings.data_dir == Path("/srv/nautilus/management")
    assert settings.external_url == settings.job_url == "https://ml.example.com"


def test_a_value_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAUTILUS_LOG_LEVEL", "loud")
    with pytest.raises(SettingError, match="NAUTILUS_LOG_LEVEL"):
        Settings.from_environment()


def test_secrets_are_read_when_they_are_there_and_never_shown(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, database_url=SecretStr("postgresql+psycopg://u:canary@h/d"))
    assert settings.admin_token() is None and settings.oauth_client() is None
    settings.admin_token_file.parent.mkdir()
    settings.admin_token_file.write_text("canary\n")
    client = {"client_id": "i", "client_secret": "canary", "redirect_uri": "http://x/auth/callback"}
    settings.oauth_file.write_text(json.dumps(client))
    token, application = settings.admin_token(), settings.oauth_client()
    assert token is not None and token.get_secret_value() == "canary"
    assert application is not None and application.client_secret.get_secret_value() == "canary"
    assert "canary" not in f"{settings!r} {token!r} {application!r}"


def test_a_damaged_application_file_says_what_to_do(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    settings.oauth_file.parent.mkdir()
    settings.oauth_file.write_text('{"client_id": 1')
    with pytest.raises(SettingError, match="restart provision"):
        settings.oauth_client()
