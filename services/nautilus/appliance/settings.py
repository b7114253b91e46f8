# ruff: noqa: RUF009 -- `_setting` is dataclasses.field with a name; nothing is shared between instances.
"""Settings of the appliance: one line each in `ApplianceSettings`, documented in docs/reference/settings.md.

A value comes from the environment, else from HOME/etc/nautilus.toml (`nautilus config set`), else it is the
default. Plain parsing, no library: boot and supervised helpers must start in milliseconds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from nautilus.appliance import values
from nautilus.appliance.edition import Edition
from nautilus.appliance.errors import SettingError
from nautilus.appliance.layout import PROJECT_ROOT, Layout
from nautilus.appliance.settings_file import read_settings_file
from nautilus.appliance.tcp_access import TcpAccess

EXECUTORS = ("auto", "process", "docker")
BUNDLED_RUNNERS = ("nautilus", "gitlab", "off")
NETWORK_MODES = ("none", "internal", "full")
TLS_MODES = ("off", "files", "own-ca", "proxy")
IMAGE_CA_FOLDER = Path("/etc/nautilus/ca")
"""In the image: each `*.crt` below it is a CA to trust."""


@dataclass(frozen=True)
class Setting:
    """How one value is given. `default`: in words; `meaning`: one line, as `nautilus config show` prints it."""

    name: str
    parse: values.Parser
    default: str
    meaning: str


@dataclass(frozen=True)
class Given:
    """A value's text as it was found; `source` is `environment` or the file's path."""

    text: str
    source: str


def _setting(name: str, parse: values.Parser, default: str, meaning: str, value: Any = None) -> Any:
    """A field of ApplianceSettings: `default` says in words what `value` (what it is when not set) leads to."""
    return field(default=value, metadata={"setting": Setting(name, parse, default, meaning)})


@dataclass(frozen=True)
class ApplianceSettings:
    """What the user asked for; None means: decide at the first start, then remember (etc/appliance.json).

    Ports are TCP ports (1 to 65535); `listen` is an address; `slots` counts jobs at a time.
    """

    home: Path
    web_port: int | None = _setting(
        "NAUTILUS_PORT", values.port, "8080, else a free one (image: 80)", "pages, /api/v1, MLflow, /api/v4"
    )
    web_tls_port: int | None = _setting(
        "NAUTILUS_TLS_PORT", values.port, "8443, else a free one (image: 443)", "the same with TLS"
    )
    management_port: int | None = _setting(
        "NAUTILUS_MANAGEMENT_PORT", values.port, "8081, else a free one", "the management API alone"
    )
    gitlab_port: int | None = _setting(
        "NAUTILUS_GITLAB_PORT", values.port, "10080, else a free one", "clones, runners, GitLab's API"
    )
    registry_port: int | None = _setting(
        "NAUTILUS_REGISTRY_PORT", values.port, "5050, else a free one", "the container registry"
    )
    ssh_port: int | None = _setting(
        "NAUTILUS_SSH_PORT",
        values.port,
        "2222, else a free one (image: 22)",
        "Git over SSH; in the image the published port, as it stands in clone addresses",
    )
    ssh: bool = _setting(
        "NAUTILUS_SSH", values.switch, "on where sshd is installed", "Git over SSH: on or off", True
    )
    listen: str | None = _setting(
        "NAUTILUS_LISTEN", values.address, "127.0.0.1 (image: all)", "the address to listen on"
    )
    external_url: str | None = _setting(
        "NAUTILUS_EXTERNAL_URL", values.url, "http://localhost:PORT", "the address that people use"
    )
    gitlab_external_url: str | None = _setting(
        "NAUTILUS_GITLAB_EXTERNAL_URL", values.url, "the same host, GitLab's port", "clones and runners"
    )
    registry_external_url: str | None = _setting(
        "NAUTILUS_REGISTRY_EXTERNAL_URL", values.url, "the same host, the registry's port", "docker login"
    )
    ssh_host: str | None = _setting(
        "NAUTILUS_SSH_HOST", values.host, "the external address's host", "the host in SSH clone addresses"
    )
    job_url: str | None = _setting(
        "NAUTILUS_JOB_URL",
        values.url,
        "the way from a job that was found",
        "pages and tracking, as jobs see them",
    )
    job_gitlab_url: str | None = _setting(
        "NAUTILUS_JOB_GITLAB_URL", values.url, "the way from a job that was found", "GitLab, as jobs see it"
    )
    tls: str | None = _setting(
        "NAUTILUS_TLS",
        values.choice(*TLS_MODES),
        "files with a certificate, proxy behind a trusted one, else off",
        "who speaks TLS: nobody, we with a certificate of yours, we with an own CA's, or a proxy before us",
    )
    tls_certificate: Path | None = _setting(
        "NAUTILUS_TLS_CERTIFICATE", values.path, "none", "PEM file: the server's certificate and its chain"
    )
    tls_key: Path | None = _setting(
        "NAUTILUS_TLS_KEY", values.path, "none", "PEM file: the certificate's private key, not encrypted"
    )
    tls_names: tuple[str, ...] = _setting(
        "NAUTILUS_TLS_NAMES",
        values.hosts,
        "none",
        "further names and addresses in the own CA's certificate",
        (),
    )
    hsts_s: int = _setting(
        "NAUTILUS_HSTS",
        values.seconds,
        "0",
        "seconds for which browsers shall insist on TLS; 0: do not ask",
        0,
    )
    trusted_proxies: tuple[str, ...] = _setting(
        "NAUTILUS_TRUSTED_PROXIES",
        values.networks,
        "none",
        "whose X-Forwarded-For and -Proto are believed",
        (),
    )
    container_registry: str = _setting(
        "NAUTILUS_CONTAINER_REGISTRY",
        values.choice("auto", "off"),
        "auto: on where docker-registry is installed",
        "whether there is a container registry",
        "auto",
    )
    docker_registry: Path | None = _setting(
        "NAUTILUS_DOCKER_REGISTRY", values.path, "docker-registry on the PATH", "the registry's program"
    )
    database_access: str = _setting(
        "NAUTILUS_DATABASE_ACCESS",
        values.choice("off", "readonly"),
        "off",
        "readonly: PostgreSQL on a TCP port, with a password, for reading experiments",
        "off",
    )
    database_port: int | None = _setting(
        "NAUTILUS_DATABASE_PORT", values.port, "6000, else a free one", "PostgreSQL, when switched on"
    )
    ca_file: Path | None = _setting(
        "NAUTILUS_CA_FILE", values.path, "none (image: /etc/nautilus/ca/*.crt)", "further CAs to trust, PEM"
    )
    package_index: str | None = _setting(
        "NAUTILUS_PACKAGE_INDEX", values.resource, "PyPI", "Python package index for jobs and the set-up"
    )
    debian_mirror: str | None = _setting(
        "NAUTILUS_DEBIAN_MIRROR", values.resource, "none", "Debian package mirror, told to jobs"
    )
    executor: str = _setting(
        "NAUTILUS_EXECUTOR",
        values.choice(*EXECUTORS),
        "auto",
        "where jobs run: process, docker, or auto",
        "auto",
    )
    job_image: str | None = _setting(
        "NAUTILUS_JOB_IMAGE", values.text, "nautilus-job (image: the image itself)", "for jobs that name none"
    )
    job_network: str | None = _setting(
        "NAUTILUS_JOB_NETWORK", values.text, "Docker's default (image: its own)", "Docker network of the jobs"
    )
    job_network_mode: str = _setting(
        "NAUTILUS_JOB_NETWORK_MODE",
        values.choice(*NETWORK_MODES),
        "full",
        "the most network that a job gets: none, internal (this appliance only), full",
        "full",
    )
    job_reachable: tuple[str, ...] = _setting(
        "NAUTILUS_JOB_REACHABLE",
        values.endpoints,
        "none",
        "HOST:PORT of this site that jobs reach besides the appliance, also in mode internal",
        (),
    )
    slots: int | None = _setting(
        "NAUTILUS_SLOTS", values.count, "number of cores", "jobs at a time on the bundled runner"
    )
    bundled_runner: str = _setting(
        "NAUTILUS_BUNDLED_RUNNER",
        values.choice(*BUNDLED_RUNNERS),
        "nautilus",
        "the appliance's own runner: ours, a stock gitlab-runner, or none",
        "nautilus",
    )
    gitlab_runner: str | None = _setting(
        "NAUTILUS_GITLAB_RUNNER",
        values.text,
        "/opt/gitlab-runner/gitlab-runner, else the PATH's",
        "the program of a stock gitlab-runner",
    )
    gitlab_runner_helper: str | None = _setting(
        "NAUTILUS_GITLAB_RUNNER_HELPER",
        values.text,
        "gitlab-runner's own, pulled",
        "a stock gitlab-runner's helper image, where no registry is in reach",
    )
    sign_in_url: str | None = _setting(
        "NAUTILUS_SIGN_IN_URL",
        values.url,
        "the external address; in the full edition GitLab's, where browsers accept its port",
        "where browsers find GitLab's sign-in page",
    )
    gitlab_stop_s: int = _setting(
        "NAUTILUS_GITLAB_STOP", values.seconds, "4", "full edition: seconds for GitLab's services to end", 4
    )
    in_image: bool = False
    edition: Edition = Edition.LITE
    omnibus_root: Path = Path("/")
    """Where GitLab's package lies; other than "/" only in tests."""

    @property
    def layout(self) -> Layout:
        return Layout(self.home)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> ApplianceSettings:
        """Raises SettingError: a line for each value that cannot be used, with what would do."""
        settings, problems = cls.checked(environ)
        if problems:
            raise SettingError("\n".join(problems))
        return settings

    @classmethod
    def checked(cls, environ: Mapping[str, str] | None = None) -> tuple[ApplianceSettings, list[str]]:
        """The settings, the default in place of what cannot be used; and a line for each such value."""
        env = os.environ if environ is None else environ
        home = home_folder(env)
        given, problems = given_values(env, home)
        parsed: dict[str, Any] = {}
        for name, setting in settings_by_field().items():
            if setting.name in given:
                found = given[setting.name]
                try:
                    parsed[name] = setting.parse(found.text)
                except ValueError as error:
                    where = "" if found.source == "environment" else f" (in {found.source})"
                    problems.append(f"{setting.name}={found.text!r}{where}: {error}")
        settings = cls(
            home=home,
            in_image=env.get("NAUTILUS_IN_IMAGE") == "1",
            edition=_edition(env, problems),
            omnibus_root=omnibus_root(env),
            **parsed,
        )
        from nautilus.appliance.contradictions import contradictions

        return settings, problems or contradictions(settings, tls_mode(settings))


def omnibus_root(environ: Mapping[str, str]) -> Path:
    """Where GitLab's package lies: NAUTILUS_OMNIBUS_ROOT, which only tests set."""
    return Path(environ.get("NAUTILUS_OMNIBUS_ROOT") or "/")


def _edition(environ: Mapping[str, str], problems: list[str]) -> Edition:
    """Set by the image, not by the user: NAUTILUS_EDITION."""
    text = environ.get("NAUTILUS_EDITION") or Edition.LITE
    try:
        return Edition(text)
    except ValueError:
        problems.append(f"NAUTILUS_EDITION={text!r}: use one of {', '.join(Edition)}")
        return Edition.LITE


def settings_by_field() -> dict[str, Setting]:
    """Every setting that a user may give, by its field's name, in the order of the documentation."""
    declared: tuple[Field[Any], ...] = fields(ApplianceSettings)
    return {one.name: one.metadata["setting"] for one in declared if "setting" in one.metadata}


def home_folder(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("NAUTILUS_HOME") or PROJECT_ROOT / ".nautilus").expanduser().absolute()


def given_values(environ: Mapping[str, str], home: Path) -> tuple[dict[str, Given], list[str]]:
    """What was given for each setting's name (the environment wins over the file), and what the file has wrong."""
    path = Layout(home).settings_file
    stored, problems = read_settings_file(path)
    known = {setting.name for setting in settings_by_field().values()}
    given = {name: Given(text, str(path)) for name, text in stored.items() if name in known and text}
    for name in known:
        if text := environ.get(name, "").strip():
            given[name] = Given(text, "environment")
    return given, problems


def trusted_ca_files(settings: ApplianceSettings) -> list[Path]:
    """PEM files of CAs to trust beside the system's: the one that was named, and in the image those mounted."""
    named = [settings.ca_file] if settings.ca_file else []
    return [*named, *(sorted(IMAGE_CA_FOLDER.glob("*.crt")) if settings.in_image else ())]


def tls_mode(settings: ApplianceSettings) -> str:
    """One of TLS_MODES: what was set, else what follows from the certificate, the address and the proxies."""
    if settings.tls is not None:
        return settings.tls
    if settings.tls_certificate is not None:
        return "files"
    if (settings.external_url or "").startswith("https://") and settings.trusted_proxies:
        return "proxy"
    return "off"


@dataclass(frozen=True)
class RegistrySettings:
    """What the `registry` program is started with."""

    home: Path
    program: str
    gitlab_external_url: str

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> RegistrySettings:
        env = os.environ if environ is None else environ
        try:
            return cls(
                Path(env["NAUTILUS_HOME"]),
                env["NAUTILUS_DOCKER_REGISTRY"],
                env["NAUTILUS_GITLAB_EXTERNAL_URL"],
            )
        except KeyError as missing:
            raise SettingError(
                f"{missing.args[0]} is not set: start the registry through supervisord"
            ) from None


@dataclass(frozen=True)
class PostgresSettings:
    """What the `postgres` program is started with."""

    cluster: Path
    socket_dir: Path
    gitlab_socket_dir: Path | None = None
    """A second socket, for GitLab in the full edition."""
    tcp: TcpAccess | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> PostgresSettings:
        env = os.environ if environ is None else environ
        try:
            cluster, sockets = Path(env["PGDATA"]), Path(env["NAUTILUS_POSTGRES_SOCKETS"])
        except KeyError as missing:
            raise SettingError(f"{missing.args[0]} is not set: start postgres through supervisord") from None
        is_full = env.get("NAUTILUS_EDITION") == Edition.FULL
        gitlab_sockets = sockets.with_name("gitlab-postgres") if is_full else None
        return cls(cluster, sockets, gitlab_sockets, TcpAccess.from_environment(env))
