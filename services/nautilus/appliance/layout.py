"""Where everything of an appliance lies: one value, computed from the data folder.

See docs/reference/internals.md, which other programs rely on.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

SOCKET_PATH_LIMIT_BYTES = 100
"""Unix socket paths end at 107 bytes; the longest name below the folder is kept free."""

PROJECT_ROOT = Path(__file__).resolve().parents[3]
"""The checkout, or /opt/nautilus in the image: holds supervisord.conf, migrations/, services/."""


@dataclass(frozen=True)
class Layout:
    """The folders and files of the appliance whose data folder is `home` (absolute)."""

    home: Path
    root: Path = PROJECT_ROOT

    @cached_property
    def run(self) -> Path:
        """Folder of the sockets; below /tmp where the paths would be too long for a unix socket."""
        inside = self.home / "run"
        if len(os.fsencode(inside)) + len("/postgres/.s.PGSQL.5432") <= SOCKET_PATH_LIMIT_BYTES:
            return inside
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:8]
        return Path(f"/tmp/nautilus-{self.home_owner_uid}-{digest}")

    @cached_property
    def home_owner_uid(self) -> int:
        return self.home.stat().st_uid if self.home.exists() else os.geteuid()

    @property
    def etc(self) -> Path:
        return self.home / "etc"

    @property
    def secrets(self) -> Path:
        return self.home / "secrets"

    @property
    def log(self) -> Path:
        return self.home / "log"

    @property
    def postgres(self) -> Path:
        return self.home / "postgres"

    @property
    def forge(self) -> Path:
        return self.home / "forge"

    @property
    def management(self) -> Path:
        return self.home / "management"

    @property
    def spool(self) -> Path:
        return self.home / "spool"

    @property
    def runner(self) -> Path:
        return self.home / "runner"

    @property
    def ssh(self) -> Path:
        """The host keys of sshd."""
        return self.home / "ssh"

    @property
    def jobs(self) -> Path:
        """The virtual environment that process jobs find first on their PATH."""
        return self.home / "jobs"

    @property
    def postgres_socket_dir(self) -> Path:
        return self.run / "postgres"

    @property
    def gitlab_database_socket_dir(self) -> Path:
        """The database's socket for GitLab, in the full edition alone."""
        return self.run / "gitlab-postgres"

    @property
    def forge_socket(self) -> Path:
        return self.run / "forge.sock"

    @property
    def registry(self) -> Path:
        """The images of the container registry."""
        return self.home / "registry"

    @property
    def registry_socket(self) -> Path:
        return self.run / "registry.sock"

    @property
    def registry_configuration(self) -> Path:
        return self.etc / "registry.yml"

    @property
    def registry_lock(self) -> Path:
        """Held by a garbage collection of the registry."""
        return self.home / "run" / "registry-gc.lock"

    @property
    def supervisor_socket(self) -> Path:
        return self.run / "supervisor.sock"

    @property
    def provision_status(self) -> Path:
        return self.home / "run" / "provision.json"

    @property
    def runner_config(self) -> Path:
        return self.runner / "config.toml"

    @property
    def stock_runner_config(self) -> Path:
        """config.toml of a stock gitlab-runner, where that is the bundled one."""
        return self.runner / "gitlab-runner.toml"

    @property
    def runner_status(self) -> Path:
        return self.runner / "status.json"

    @property
    def appliance_file(self) -> Path:
        """What was decided at the first start and stays: ports, URLs, users, executor."""
        return self.etc / "appliance.json"

    @property
    def settings_file(self) -> Path:
        """What `nautilus config set` wrote; the environment wins."""
        return self.etc / "nautilus.toml"

    @property
    def edition_file(self) -> Path:
        """Which edition and which PostgreSQL the data is of (edition.py)."""
        return self.etc / "edition.json"

    @property
    def gitlab_status(self) -> Path:
        """What the `gitlab` program of the full edition is doing."""
        return self.home / "run" / "gitlab.json"

    @property
    def tls(self) -> Path:
        """Certificates that we made, without their keys (those are secrets), and the bundle of all that we trust."""
        return self.home / "tls"

    @property
    def ca_certificate(self) -> Path:
        """The own CA's, for clients to trust."""
        return self.tls / "ca.pem"

    @property
    def ca_bundle(self) -> Path:
        """The system's CAs and what was added to them, where anything was."""
        return self.tls / "ca-bundle.pem"

    @property
    def acme(self) -> Path:
        """Holds `.well-known/acme-challenge/`, served on the plain web port when TLS is on."""
        return self.home / "acme"

    @property
    def lock_file(self) -> Path:
        return self.home / "lock"

    def secret(self, name: str) -> Path:
        return self.secrets / name
