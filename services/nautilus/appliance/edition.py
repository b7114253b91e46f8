"""Which edition an appliance is, and that its data stays what it is.

The image decides: `lite` has the embedded forge, `full` has GitLab CE by its package. What a data folder was made
for is written in HOME/etc/edition.json at the first start, with PostgreSQL's major version; another image refuses
it and says how its content is carried over. A folder without that file is older than it, and lite.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from enum import StrEnum

from nautilus.appliance.errors import HomeUnusable, WrongEdition
from nautilus.appliance.layout import Layout
from nautilus.appliance.omnibus.package import Omnibus
from nautilus.appliance.postgres import Binaries, cluster_major

_WAY_OUT = (
    "with the image that made it, run `nautilus export FOLDER`; then, with this one and an empty data folder, "
    "`nautilus import FOLDER` (docs/how-to/export-and-import.md)"
)


class Edition(StrEnum):
    LITE = "lite"
    FULL = "full"

    @property
    def server(self) -> str:
        """The program that is GitLab here, as `status` and `/-/health` call it."""
        return "gitlab" if self is Edition.FULL else "forge"

    @property
    def services(self) -> frozenset[str]:
        """The services whose schema is ours to keep."""
        return frozenset({"management"} if self is Edition.FULL else {"management", "forge"})


@dataclass(frozen=True)
class Made:
    """What a data folder was made by. `gitlab`: version of the package, '' in the lite edition."""

    edition: str
    postgres_major: int
    gitlab: str = ""


def ensure_edition(layout: Layout, edition: Edition, binaries: Binaries, package: Omnibus) -> Made:
    """Refuses data of another edition or PostgreSQL; else writes down whose it is. Raises WrongEdition."""
    made = read_made(layout)
    if made is None and has_data(layout):
        made = Made(Edition.LITE, cluster_major(layout.postgres) or binaries.major)
    if made is not None:
        _refuse(layout, made, edition, binaries)
    now = Made(edition, binaries.major, package.version() if edition is Edition.FULL else "")
    if now != made or not layout.edition_file.exists():
        write_made(layout, now)
    return now


def refuse_unfinished_import(layout: Layout) -> None:
    """Raises HomeUnusable while the data folder is half of an import."""
    unfinished = layout.home / ".import"
    if unfinished.exists():
        raise HomeUnusable(
            f"an import into {layout.home} was interrupted: run `nautilus import` again, "
            f"or remove {unfinished} to start empty"
        )


def has_data(layout: Layout) -> bool:
    return cluster_major(layout.postgres) is not None


def read_made(layout: Layout) -> Made | None:
    """None where the folder is new, or older than this file."""
    try:
        stored = json.loads(layout.edition_file.read_text())
        return Made(str(stored["edition"]), int(stored["postgres_major"]), str(stored.get("gitlab", "")))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise WrongEdition(
            f"{layout.edition_file} is damaged: write "
            '{"edition": "lite", "postgres_major": 17} into it, with what is true here'
        ) from error


def write_made(layout: Layout, made: Made) -> None:
    new = layout.edition_file.with_suffix(".new")
    with new.open("w") as file:
        file.write(json.dumps(asdict(made)) + "\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(layout.edition_file)


def _refuse(layout: Layout, made: Made, edition: Edition, binaries: Binaries) -> None:
    if made.edition != edition:
        raise WrongEdition(
            f"the data in {layout.home} is of the {made.edition} edition, this is the {edition} one: {_WAY_OUT}"
        )
    if made.postgres_major != binaries.major:
        raise WrongEdition(
            f"the data in {layout.home} is of PostgreSQL {made.postgres_major}, here is {binaries.major}: {_WAY_OUT}"
        )
