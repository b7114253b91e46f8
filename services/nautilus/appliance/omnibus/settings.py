"""What we configure of GitLab, as values: the ends that join it to the appliance, and what keeps it small.

Two lists, since two things are wanted of them. `joints` must be as they are, or the appliance does not work: they
are read after the lines of the user's own gitlab.rb. `defaults` are a matter of taste and memory: they are read
before, so that the user's lines win. Source of each key: known_keys.txt; of the sizes:
https://docs.gitlab.com/omnibus/settings/memory_constrained_envs/
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from nautilus.appliance.omnibus.package import DATABASE, ROLE, Omnibus
from nautilus.appliance.omnibus.ruby import Setting, Value

DOCUMENTED_ELSEWHERE = {"registry.internal_key": "files/gitlab-cookbooks/gitlab/recipes/gitlab-rails.rb"}
"""Keys that Omnibus takes but its template does not name, and where in omnibus-gitlab they are read."""

_MALLOC = "dirty_decay_ms:1000,muzzy_decay_ms:1000"
_OUTSIDE_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Registry:
    """The appliance's container registry, to which GitLab says who may do what."""

    external_url: str
    api_url: str
    """As this machine reaches it."""
    issuer: str
    """The name in the tokens that the registry believes."""
    key: str = field(repr=False)
    """PEM of the private key that GitLab signs the registry's tokens with."""


@dataclass(frozen=True)
class Joints:
    """Where GitLab meets the rest of the appliance. URLs without a slash at the end."""

    external_url: str
    ssh_host: str
    ssh_port: int
    """As clone addresses have it."""
    database_socket_dir: Path
    gateway_user: str
    """Account of the gateway's workers, which must reach Workhorse's socket."""
    trusted_proxies: tuple[str, ...] = ()
    registry: Registry | None = None


@dataclass(frozen=True)
class FirstBoot:
    """Read by GitLab when it makes its database, never again."""

    root_password: str = field(repr=False)
    registration_token: str = field(repr=False)


def joints(wanted: Joints, package: Omnibus) -> list[Setting]:
    """What must be as it is."""
    found = [
        Setting(("external_url",), wanted.external_url),
        *_section(
            "gitlab_rails",
            {
                "db_adapter": "postgresql",
                "db_encoding": "unicode",
                "db_host": str(wanted.database_socket_dir),
                "db_port": 5432,
                "db_username": ROLE,
                "db_password": None,
                "db_database": DATABASE,
                "gitlab_ssh_host": wanted.ssh_host,
                "gitlab_shell_ssh_port": wanted.ssh_port,
                "trusted_proxies": list(wanted.trusted_proxies),
                "monitoring_whitelist": ["127.0.0.0/8", "::1/128"],
                "gitlab_kas_enabled": False,
            },
        ),
        # Served by the gateway: GitLab's own nginx is off, and TLS is not GitLab's matter.
        *_section("nginx", {"enable": False}),
        *_section("letsencrypt", {"enable": False}),
        *_section("web_server", {"external_users": [wanted.gateway_user]}),
        *_section(
            "gitlab_workhorse", {"listen_network": "unix", "listen_addr": str(package.workhorse_socket)}
        ),
        *_section("postgresql", {"enable": False}),
        # The appliance's sshd asks GitLab's own program for the keys.
        *_section("gitlab_sshd", {"enable": False}),
        *_section("package", {"modify_kernel_parameters": False, "detect_init": False}),
        # The image has made the accounts, with fixed ids: a volume outlives the image.
        *_section("manage_accounts", {"enable": False}),
    ]
    return found + _registry(wanted.registry)


def defaults() -> list[Setting]:
    """What keeps GitLab small and quiet; a user's own lines win over these."""
    exporters = ("gitlab_exporter", "node_exporter", "postgres_exporter", "redis_exporter")
    off = ("prometheus_monitoring", "prometheus", "alertmanager", *exporters, "gitlab_kas")
    return [
        *_section(
            "gitlab_rails",
            {
                "usage_ping_enabled": False,
                "initial_gitlab_product_usage_data": False,
                "store_initial_root_password": False,
                "display_initial_root_password": False,
                # One runner behind one address would lock everybody behind it out.
                "rack_attack_git_basic_auth": {"enabled": False},
                "env": {"MALLOC_CONF": _MALLOC},
            },
        ),
        *_section("puma", {"worker_processes": 0, "exporter_enabled": False}),
        *_section("sidekiq", {"concurrency": 10, "metrics_enabled": False, "shutdown_timeout": 4}),
        *_section("gitaly", {"env": {"MALLOC_CONF": _MALLOC, "GITALY_COMMAND_SPAWN_MAX_PARALLEL": "2"}}),
        *(Setting((section, "enable"), False) for section in off),
    ]


def first_boot(secrets: FirstBoot) -> list[Setting]:
    """Only in force while the database is empty."""
    return _section(
        "gitlab_rails",
        {
            "initial_root_password": secrets.root_password,
            "initial_shared_runners_registration_token": secrets.registration_token,
        },
    )


def every_setting() -> list[Setting]:
    """Each key that we may write, with values of no meaning: for the check against the known keys."""
    url = "http://gitlab.invalid"
    registry = Registry(url, url, "issuer", "key")
    wanted = Joints(url, "gitlab.invalid", 22, Path("/run"), "nautilus", (), registry)
    return [*defaults(), *joints(wanted, Omnibus()), *first_boot(FirstBoot("password", "token"))]


def _registry(registry: Registry | None) -> list[Setting]:
    """The package's own registry stays off: the appliance's serves both editions.

    Source: https://docs.gitlab.com/administration/packages/container_registry/ (external container registry).
    """
    off = _section("registry", {"enable": False})
    if registry is None:
        return [*off, Setting(("gitlab_rails", "registry_enabled"), False)]
    address = urlsplit(registry.external_url)
    port = address.port or _OUTSIDE_PORTS.get(address.scheme, 443)
    return [
        *off,
        Setting(("registry", "internal_key"), registry.key),
        *_section(
            "gitlab_rails",
            {
                "registry_enabled": True,
                "registry_host": address.hostname,
                "registry_port": None if port in (80, 443) else str(port),
                "registry_api_url": registry.api_url,
                "registry_issuer": registry.issuer,
            },
        ),
    ]


def _section(name: str, values: dict[str, Value]) -> list[Setting]:
    return [Setting((name, key), value) for key, value in values.items()]
