"""Settings of the management service, from the environment (prefix `NAUTILUS_`).

Each is documented in docs/reference/settings.md. Secrets stay in files and are read when they are needed,
since the appliance's provision step may write them after this service has started.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from nautilus.errors import SettingError

PROJECT_ROOT = Path(__file__).resolve().parents[2]
"""The checkout, or /opt/nautilus in the image."""

LogLevel = Literal["debug", "info", "warning", "error"]


class OAuthClient(BaseModel):
    """The application that provision made for the pages at GitLab."""

    client_id: str
    client_secret: SecretStr
    redirect_uri: str


class Settings(BaseSettings):
    """What the service is started with. URLs carry no trailing slash; files need not exist yet."""

    model_config = SettingsConfigDict(env_prefix="NAUTILUS_", extra="ignore", frozen=True)

    home: Path = PROJECT_ROOT / ".nautilus"
    database_url: SecretStr = SecretStr("")
    socket: Path = Path()
    external_url: str = "http://localhost:8080"
    gitlab_url: str = "http://127.0.0.1:10080"
    gitlab_external_url: str = ""
    sign_in_url: str = ""
    job_url: str = ""
    admin_token_file: Path = Path()
    oauth_file: Path = Path()
    session_key_file: Path = Path()
    data_dir: Path = Path()
    spool_dir: Path = Path()
    runner_status_file: Path = Path()
    provision_status_file: Path = Path()
    edition: Literal["lite", "full"] = "lite"
    gitlab_status_file: Path = Path()
    bundled_runner: Literal["nautilus", "gitlab", "off"] = "nautilus"
    sshd_port: int | None = Field(default=None, ge=1, le=65535)
    registry_socket: Path | None = None
    """Where sshd listens; None: it is off."""
    ssh_user: str = "git"
    ssh_host: str = "localhost"
    ssh_port: int = 22
    """Whom and where SSH clone addresses name."""
    log_level: LogLevel = "info"
    database_pool_size: int = Field(default=8, ge=1, le=100)

    @model_validator(mode="before")
    @classmethod
    def _derive(cls, data: dict[str, object]) -> dict[str, object]:
        values = {key: value for key, value in data.items() if value != ""}
        home = Path(str(values.get("home") or PROJECT_ROOT / ".nautilus")).expanduser().absolute()
        values["home"] = home
        run, secrets = home / "run", home / "secrets"
        for name, default in {
            "database_url": f"postgresql+psycopg://nautilus@/nautilus?host={run / 'postgres'}",
            "socket": run / "management.sock",
            "admin_token_file": secrets / "admin_token",
            "oauth_file": secrets / "oauth.json",
            "session_key_file": secrets / "session_key",
            "data_dir": home / "management",
            "spool_dir": home / "spool",
            "runner_status_file": home / "runner" / "status.json",
            "provision_status_file": run / "provision.json",
            "gitlab_status_file": run / "gitlab.json",
        }.items():
            values.setdefault(name, default)
        for name in ("external_url", "gitlab_url", "gitlab_external_url", "sign_in_url", "job_url"):
            if name in values:
                values[name] = str(values[name]).rstrip("/")
        values.setdefault("gitlab_external_url", values.get("gitlab_url", "http://127.0.0.1:10080"))
        values.setdefault("sign_in_url", values.get("external_url", "http://localhost:8080"))
        values.setdefault("job_url", values.get("external_url", "http://localhost:8080"))
        return values

    @classmethod
    def from_environment(cls) -> Settings:
        """Raises SettingError, naming each variable that cannot be used."""
        try:
            return cls()
        except ValidationError as error:
            lines = [
                f"NAUTILUS_{'_'.join(str(part) for part in item['loc']).upper()}: {item['msg']}"
                for item in error.errors(include_input=False, include_url=False)
            ]
            raise SettingError("; ".join(lines)) from None

    def admin_token(self) -> SecretStr | None:
        """The service's own token at GitLab; None while nobody has written it yet."""
        return _secret(self.admin_token_file)

    def session_key(self) -> SecretStr | None:
        """The key that signs session cookies and hook secrets; None while nobody has written it yet."""
        return _secret(self.session_key_file)

    def oauth_client(self) -> OAuthClient | None:
        """None until provision has registered the application at GitLab.

        Raises SettingError where the file is there but is not what provision writes.
        """
        text = _secret(self.oauth_file)
        if text is None:
            return None
        try:
            return OAuthClient.model_validate(json.loads(text.get_secret_value()))
        except (ValueError, ValidationError):
            raise SettingError(f"{self.oauth_file} is damaged: remove it and restart provision") from None


def _secret(path: Path) -> SecretStr | None:
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingError(f"{path} cannot be read: {error.strerror}") from error
    return SecretStr(text) if text else None
