"""All that the forge reads from its environment (`FORGE_…`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

_CHECKOUT = Path(__file__).resolve().parents[2]


class Settings(BaseModel):
    """Settings of one forge; built once at an entry point and passed down.

    The `*_file` settings name files that hold one line each; a missing file means "not given".
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    database_url: SecretStr = Field(description="postgresql+psycopg://… of the database `forge`")
    data_dir: Path = Field(description="repositories/, artifacts/, traces/, hooks/, tmp/ lie below it")
    socket: Path | None = Field(default=None, description="unix socket to listen on")
    external_url: str = Field(default="http://localhost:10080", description="what browsers and clones use")
    ssh_host: str = Field(default="", description="host in SSH clone addresses; empty: the external URL's")
    ssh_port: int = Field(default=22, ge=1, le=65535, description="published port of SSH")
    ssh_user: str = Field(default="git", min_length=1, description="the one user that SSH lets in")
    spool_dir: Path | None = Field(default=None, description="where the gateway puts request bodies")
    root_password_file: Path | None = None
    admin_token_file: Path | None = None
    registration_token_file: Path | None = None
    secret_key_file: Path | None = None
    registry_external_url: str | None = Field(
        default=None, description="what docker logs in to; empty or missing: there is no container registry"
    )
    registry_socket: Path | None = Field(default=None, description="unix socket of the container registry")
    registry_key_file: Path | None = Field(default=None, description="signs the registry's tokens (PEM, RSA)")
    registry_certificate_file: Path | None = Field(
        default=None, description="of that key; the registry trusts it (PEM)"
    )
    own_ports: str = Field(
        default="",
        description="what the appliance listens on (8080,10080,…): no request leaves for these here",
    )
    import_timeout_s: float = Field(default=7200.0, gt=0, description="longest fetch of an import or a fork")
    import_max_bytes: int = Field(default=50 << 30, gt=0, description="largest repository that is imported")
    migrations_dir: Path = Field(default=_CHECKOUT / "migrations" / "forge")
    log_level: str = "INFO"
    pool_size: int = Field(default=4, ge=1, description="database connections that are kept open")
    pool_overflow: int = Field(default=16, ge=0, description="further connections under load")
    git_timeout_s: float = Field(default=60.0, gt=0, description="longest run of one git plumbing command")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Each from the variable of its name with `FORGE_` before it. Raises pydantic's `ValidationError`."""
        given = {name: environ.get(f"FORGE_{name.upper()}") for name in cls.model_fields}
        return cls.model_validate({name: value for name, value in given.items() if value is not None})

    @field_validator("external_url")
    @classmethod
    def _without_slash(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError("must be an http or https URL")
        return value.rstrip("/")

    @field_validator("registry_external_url")
    @classmethod
    def _registry_or_none(cls, value: str | None) -> str | None:
        return cls._without_slash(value) if value else None

    @field_validator("own_ports")
    @classmethod
    def _are_ports(cls, value: str) -> str:
        if any(not part.strip().isdigit() for part in value.split(",") if part.strip()):
            raise ValueError("must be port numbers with commas between them")
        return value

    @property
    def appliance_ports(self) -> frozenset[int]:
        """Every port of the appliance that is known: those listened on, and the published one of SSH."""
        listed = {int(port) for port in self.own_ports.split(",") if port.strip()}
        return frozenset(listed | {self.ssh_port} | _ports_of(self.external_url, self.registry_external_url))

    @property
    def registry_host(self) -> str | None:
        """Host and port as image names begin with, None where there is no container registry."""
        return urlsplit(self.registry_external_url).netloc if self.registry_external_url else None

    @property
    def ssh_prefix(self) -> str:
        """What stands before a project's path in its SSH address.

        Source: gitlabhq lib/gitlab/shell.rb, config/initializers/1_settings.rb (`build_gitlab_shell_ssh_path_prefix`).
        """
        host = self.ssh_host or str(urlsplit(self.external_url).hostname)
        if self.ssh_port != 22:
            return f"ssh://{self.ssh_user}@{_bracketed(host)}:{self.ssh_port}/"
        return f"{self.ssh_user}@{_bracketed(host)}:"

    @property
    def is_tls(self) -> bool:
        return self.external_url.startswith("https://")

    @property
    def tmp_dir(self) -> Path:
        return self.data_dir / "tmp"

    def spooled(self, what: str) -> Path | None:
        """Where the gateway puts bodies of this kind ("lfs", "artifacts"); None where no gateway does."""
        return self.spool_dir / what if self.spool_dir is not None else None

    @property
    def hooks_dir(self) -> Path:
        return self.data_dir / "hooks"

    @property
    def git_config(self) -> Path:
        """What git is told of all repositories (`git.configuration`)."""
        return self.data_dir / "gitconfig"


def _ports_of(*urls: str | None) -> set[int]:
    parts = [urlsplit(url) for url in urls if url]
    return {part.port or (443 if part.scheme == "https" else 80) for part in parts}


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def read_secret(path: Path | None) -> SecretStr | None:
    """The first line of a secret file, None where no path is set, or the file is missing or empty."""
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    line = text.split("\n", 1)[0].strip()
    return SecretStr(line) if line else None
