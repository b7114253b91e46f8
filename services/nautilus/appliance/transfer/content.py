"""What an appliance's content is, by edition: databases, and folders without what every start makes anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nautilus.appliance.edition import Edition
from nautilus.appliance.errors import TransferFailed
from nautilus.appliance.layout import Layout
from nautilus.appliance.omnibus import package as omnibus
from nautilus.appliance.omnibus.package import Omnibus

UNFINISHED = ".import"
"""Folder below HOME in which an import is prepared; while it is there, the appliance does not start."""

_NOT_CONTENT = {"postgres", "postgres.new", "run", "log", "spool", "jobs", UNFINISHED}
_RUNNERS_OWN = {"builds", "mirrors", "cache", "journal", "lock", "status.json"}
_GITLAB_LEFT_OUT = {"postgresql", "backups", "nginx", "prometheus", "alertmanager"}
"""Of /var/opt/gitlab: what is not used here, or is itself a copy."""


@dataclass(frozen=True)
class Tree:
    """A folder of the appliance. `kind` and `name` as in the manifest."""

    kind: str
    name: str
    folder: Path

    def leaves_out(self, path: PurePosixPath) -> bool:
        """Whether that path (relative to the folder) is of the moment."""
        first = path.parts[0]
        if self.kind == "gitlab":
            return self.name == "var" and first in _GITLAB_LEFT_OUT
        if self.name == "runner":
            return first in _RUNNERS_OWN
        return first == "tmp" or (self.name == "etc" and path.name == "edition.json")


def databases(edition: Edition) -> tuple[str, ...]:
    return ("nautilus", omnibus.DATABASE) if edition is Edition.FULL else ("nautilus", "forge")


def trees(layout: Layout, edition: Edition, package: Omnibus) -> Iterator[Tree]:
    """Every folder of HOME that is not of the moment, whichever program it belongs to; and GitLab's.

    Raises TransferFailed where GitLab's are not there.
    """
    for folder in sorted(layout.home.iterdir()):
        if folder.is_dir() and not folder.is_symlink() and folder.name not in _NOT_CONTENT:
            yield Tree("home", folder.name, folder)
    if edition is Edition.FULL:
        for name in ("etc", "var"):
            folder = gitlab_folder(name, package)
            if not folder.is_dir():
                raise TransferFailed(f"{folder} is missing: mount GitLab's volumes beside the data folder")
            yield Tree("gitlab", name, folder)


def gitlab_folder(name: str, package: Omnibus) -> Path:
    return {"etc": package.etc, "var": package.var}[name]
