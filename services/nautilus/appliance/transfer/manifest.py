"""manifest.json: what an export holds. Written last, so that its presence means that the rest is whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from nautilus.appliance.errors import TransferFailed
from nautilus.appliance.files import replace_private, sync

FORMAT = 1
NAME = "manifest.json"
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Entry:
    """One file of the export. `kind`: database (a dump in pg_dump's custom format), home or gitlab (tar files)."""

    kind: str
    name: str
    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """`schemas`: revision of each database of ours; `gitlab`: the package's version, '' in the lite edition."""

    edition: str
    postgres_major: int
    created_at: str
    schemas: dict[str, str]
    gitlab: str = ""
    entries: list[Entry] = field(default_factory=list)
    format: int = FORMAT

    def of(self, kind: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.kind == kind]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    replace_private(folder / NAME, json.dumps(asdict(manifest), indent=2) + "\n")
    sync(folder)


def read_manifest(folder: Path) -> Manifest:
    """Raises TransferFailed where the folder is no whole export, or one of a later format."""
    try:
        stored = json.loads((folder / NAME).read_text())
        if stored["format"] != FORMAT:
            raise TransferFailed(
                f"{folder} has format {stored['format']}, this version reads {FORMAT}: use a newer image"
            )
        entries = [Entry(**entry) for entry in stored.pop("entries")]
        manifest = Manifest(**stored, entries=entries)
    except FileNotFoundError:
        raise TransferFailed(
            f"{folder} holds no {NAME}: it is no export, or one that was interrupted; export again"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TransferFailed(
            f"{folder / NAME} cannot be read ({type(error).__name__}): export again"
        ) from error
    for entry in manifest.entries:
        if Path(entry.path).is_absolute() or ".." in Path(entry.path).parts:
            raise TransferFailed(f"{folder / NAME} names a file outside of the folder: {entry.path}")
    return manifest


def verify(folder: Path, manifest: Manifest) -> None:
    """Every file is there and is what was written. Raises TransferFailed, naming the first that is not."""
    for entry in manifest.entries:
        path = folder / entry.path
        try:
            size, digest = path.stat().st_size, sha256(path)
        except OSError as error:
            raise TransferFailed(
                f"{path} cannot be read ({error.strerror}): copy the export again"
            ) from error
        if size != entry.size_bytes or digest != entry.sha256:
            raise TransferFailed(
                f"{path} is damaged (its SHA-256 is not the manifest's): copy the export again"
            )


def entry_of(folder: Path, kind: str, name: str, path: Path) -> Entry:
    """The entry of a file that was just written; it is on the disk for good when this returns."""
    sync(path)
    return Entry(kind, name, str(path.relative_to(folder)), path.stat().st_size, sha256(path))


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
