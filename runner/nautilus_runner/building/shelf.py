"""The images that were built here and are kept: found by content, removed by age of use beyond a size.

An image is known by its tag, `nautilus-build:KEY`; when it was used last is in a folder of ours, a file for each.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from pathlib import Path
from typing import Any

from docker.errors import APIError, ImageNotFound

from nautilus_runner.executors import containers

log = logging.getLogger(__name__)

REPOSITORY = "nautilus-build"
LABEL_BUILD = "org.nautilus.runner.build"
_KEY_LENGTH = 32


class Shelf:
    """Blocking; safe in several threads."""

    def __init__(self, api: Any, system_id: str, folder: Path) -> None:
        self._api = api
        self._system_id = system_id
        self._folder = folder
        self._lock = threading.Lock()

    def tag(self, key: str) -> str:
        return f"{REPOSITORY}:{key[:_KEY_LENGTH]}"

    def labels(self, key: str) -> dict[str, str]:
        return {containers.LABEL_RUNNER: self._system_id, LABEL_BUILD: key[:_KEY_LENGTH]}

    def find(self, key: str) -> dict[str, Any] | None:
        """The image, which counts as used now; None where it is not there."""
        try:
            found: dict[str, Any] = self._api.inspect_image(self.tag(key))
        except ImageNotFound:
            return None
        self._touch(key)
        return found

    def remove(self, key: str) -> None:
        with contextlib.suppress(ImageNotFound, APIError):
            self._api.remove_image(self.tag(key))
        (self._folder / key[:_KEY_LENGTH]).unlink(missing_ok=True)

    def prune(self, limit_bytes: int) -> int:
        """Remove the ones used longest ago beyond the limit; bytes that are left. One that is in use stays."""
        with self._lock:
            kept = sorted(self._kept(), reverse=True)
            total = 0
            for _used_at, key, size in kept:
                if total + size > limit_bytes and self._removed(key):
                    continue
                total += size
            return total

    def _kept(self) -> list[tuple[float, str, int]]:
        """When it was last used, key, bytes of each."""
        filters = {"label": f"{containers.LABEL_RUNNER}={self._system_id}"}
        found = []
        for image in self._api.images(name=REPOSITORY, filters=filters):
            for tag in image.get("RepoTags") or ():
                repository, _, key = tag.rpartition(":")
                if repository == REPOSITORY:  # and not a name that it was pushed by
                    found.append((self._used_at(key, float(image["Created"])), key, int(image["Size"])))
        return found

    def _removed(self, key: str) -> bool:
        try:
            self._api.remove_image(self.tag(key))
        except ImageNotFound:
            pass
        except APIError as error:
            log.debug("image %s stays: %s", key, error.explanation)
            return False
        log.info("built image %s removed: it was used longest ago", key)
        (self._folder / key).unlink(missing_ok=True)
        return True

    def _used_at(self, key: str, created_at: float) -> float:
        with contextlib.suppress(OSError):
            return (self._folder / key).stat().st_mtime
        return created_at

    def _touch(self, key: str) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / key[:_KEY_LENGTH]
        path.touch(mode=0o600)
        os.utime(path)
