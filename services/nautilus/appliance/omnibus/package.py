"""Where GitLab's Debian package lies and which version of it this is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from nautilus.appliance.errors import MissingProgram

DATABASE = "gitlabhq_production"
ROLE = "gitlab"
SYSTEM_USER = "git"
EXTENSIONS = ("amcheck", "btree_gist", "pg_trgm")
"""What only a superuser creates, before GitLab's first migration. Source: doc/install/postgresql_extensions.md."""


@dataclass(frozen=True)
class Omnibus:
    """The package's folders below `root`, which is "/" but in tests.

    Source: omnibus-gitlab config/projects/gitlab.rb (install_dir), files/gitlab-cookbooks (the others).
    """

    root: Path = Path("/")

    @property
    def opt(self) -> Path:
        return self.root / "opt" / "gitlab"

    @property
    def etc(self) -> Path:
        return self.root / "etc" / "gitlab"

    @property
    def var(self) -> Path:
        return self.root / "var" / "opt" / "gitlab"

    @property
    def log(self) -> Path:
        return self.root / "var" / "log" / "gitlab"

    @property
    def runsvdir_start(self) -> Path:
        return self.opt / "embedded" / "bin" / "runsvdir-start"

    @property
    def ctl(self) -> Path:
        return self.opt / "bin" / "gitlab-ctl"

    @property
    def rails(self) -> Path:
        return self.opt / "bin" / "gitlab-rails"

    @property
    def template(self) -> Path:
        """The commented gitlab.rb of the installed version: the list of keys that it knows."""
        return self.opt / "etc" / "gitlab.rb.template"

    @property
    def services(self) -> Path:
        """What runsvdir supervises; reconfigure fills it, and it does not outlive the container."""
        return self.opt / "service"

    @property
    def workhorse_socket(self) -> Path:
        return self.var / "gitlab-workhorse" / "sockets" / "socket"

    @property
    def secrets_file(self) -> Path:
        """The keys that GitLab encrypts its database with. Lost, its tokens and variables are lost."""
        return self.etc / "gitlab-secrets.json"

    @property
    def migrated_version_file(self) -> Path:
        """Version that last reconfigured the data. Source: docker/assets/init-container."""
        return self.var / "gitlab-rails" / "VERSION"

    def ensure_installed(self) -> None:
        """Raises MissingProgram where the package's programs are not there."""
        for program in (self.runsvdir_start, self.ctl, self.rails):
            if not program.exists():
                raise MissingProgram(
                    f"{program} is missing: the full edition needs the gitlab-ce package; "
                    "use an image built with `--target full`, or unset NAUTILUS_EDITION"
                )

    def version(self) -> str:
        """Version of the installed package, such as 19.3.0; '' where it cannot be told.

        Source: docker/assets/init-container reads the same line of version-manifest.txt.
        """
        try:
            manifest = (self.opt / "version-manifest.txt").read_text()
        except OSError:
            return ""
        found = re.search(r"^gitlab-(?:ce|ee)\s+(\S+)", manifest, re.MULTILINE)
        return found.group(1) if found else ""
