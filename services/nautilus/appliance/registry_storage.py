"""The registry's files, as far as garbage collection must know them: which manifests a tag still leads to.

`docker-registry garbage-collect` keeps every manifest that was ever pushed, or (with -m, in version 2) deletes the
parts of images for several platforms, which have no tags of their own. So what no tag leads to is taken away here,
and then the registry's own collection finds the blobs that nothing names any more.

Only while nobody writes. Source: distribution's registry/storage/paths.go.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LONGEST_MANIFEST = 16 << 20


class UnreadableManifest(Exception):
    """A manifest that a tag leads to is no JSON object, so what it names can't be told."""


@dataclass(frozen=True)
class Storage:
    """`root` is the registry's `rootdirectory`."""

    root: Path

    @property
    def _v2(self) -> Path:
        return self.root / "docker" / "registry" / "v2"

    @property
    def is_empty(self) -> bool:
        return not (self._v2 / "repositories").is_dir() or not (self._v2 / "blobs").is_dir()

    def repositories(self) -> list[str]:
        """Their names, sorted."""
        top = self._v2 / "repositories"
        found = []
        for folder, inner, _ in os.walk(top):
            if "_manifests" in inner:
                found.append(str(Path(folder).relative_to(top)))
            inner[:] = [name for name in inner if not name.startswith("_")]
        return sorted(found)

    def used_bytes(self) -> int:
        """What the files take on the disk."""
        paths = (Path(folder) / name for folder, _, names in os.walk(self.root) for name in names)
        return sum(path.lstat().st_blocks * 512 for path in paths)

    def prune(self, repository: str) -> int:
        """Takes away the manifests that no tag leads to, and an empty repository; how many manifests.

        Raises `UnreadableManifest` before anything is taken.
        """
        home = self._v2 / "repositories" / repository
        tagged = set(self._tagged(home))
        kept = self._reachable(tagged)
        gone = [folder for digest, folder in self._revisions(home) if digest not in kept]
        for folder in gone:
            shutil.rmtree(folder)
        if not tagged and not list(self._revisions(home)):
            self._remove(home)
        return len(gone)

    def drop_dangling_layers(self, repository: str) -> int:
        """After a collection: the repository's links to blobs that are no more; how many."""
        links = (self._v2 / "repositories" / repository / "_layers").glob("*/*/link")
        dangling = [link.parent for link in links if not self._has_blob(link)]
        for folder in dangling:
            shutil.rmtree(folder)
        return len(dangling)

    def _tagged(self, home: Path) -> Iterator[str]:
        for link in (home / "_manifests" / "tags").glob("*/current/link"):
            yield link.read_text("ascii").strip()

    def _revisions(self, home: Path) -> Iterator[tuple[str, Path]]:
        for folder in (home / "_manifests" / "revisions").glob("*/*"):
            if (folder / "link").exists():
                yield f"{folder.parent.name}:{folder.name}", folder

    def _reachable(self, digests: set[str]) -> set[str]:
        """The digests and all that their manifests list."""
        found: set[str] = set()
        waiting = list(digests)
        while waiting:
            digest = waiting.pop()
            if digest in found:
                continue
            found.add(digest)
            waiting += self._listed(digest)
        return found

    def _listed(self, digest: str) -> list[str]:
        """The manifests that a manifest lists; none where it has no data (then nothing can be pulled by it)."""
        data = self._blob(digest)
        if not data.exists():
            return []
        if data.stat().st_size > _LONGEST_MANIFEST:
            raise UnreadableManifest(f"{digest} is longer than {_LONGEST_MANIFEST} bytes")
        try:
            body = json.loads(data.read_bytes())
            entries = body.get("manifests") or []
            return [str(entry["digest"]) for entry in entries]
        except (ValueError, AttributeError, TypeError, KeyError) as error:
            raise UnreadableManifest(f"{digest} is no manifest: {error}") from error

    def _blob(self, digest: str) -> Path:
        algorithm, _, value = digest.partition(":")
        return self._v2 / "blobs" / algorithm / value[:2] / value / "data"

    def _has_blob(self, link: Path) -> bool:
        return self._blob(link.read_text("ascii").strip()).exists()

    def _remove(self, home: Path) -> None:
        """The repository's own folders (others may lie below it), then folders above it that are empty now."""
        for name in ("_manifests", "_layers", "_uploads"):
            shutil.rmtree(home / name, ignore_errors=True)
        folder = home
        while folder != self._v2 / "repositories" and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent
