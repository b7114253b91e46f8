"""Which images of a daemon this runner brought there, and when jobs last used them: only those may it ever remove."""

from __future__ import annotations

import json
import secrets
import threading
import time
from pathlib import Path
from typing import Any

_TOUCH_S = 60.0


class ImageRecord:
    """`<data_dir>/images.json`: {daemon: {image id: {"names", "used_at"}}}. Blocking; safe in several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def brought(self, daemon: str, image: str, name: str) -> None:
        """We pulled it, and it was not there before; or built it and gave it this name."""
        with self._lock:
            found = self._read()
            entry = found.setdefault(daemon, {}).setdefault(image, {"names": [], "used_at": 0.0})
            entry["names"] = sorted({*entry["names"], name})
            entry["used_at"] = time.time()
            self._write(found)

    def used(self, daemon: str, image: str) -> None:
        """A job uses it; nothing is noted of images that are not ours."""
        with self._lock:
            found = self._read()
            entry = found.get(daemon, {}).get(image)
            if entry is not None and time.time() - entry["used_at"] > _TOUCH_S:
                entry["used_at"] = time.time()
                self._write(found)

    def is_noted(self, image: str) -> bool:
        """Of any daemon: what is not needs no further look."""
        with self._lock:
            return any(image in images for images in self._read().values())

    def of(self, daemon: str) -> dict[str, dict[str, Any]]:
        with self._lock:
            return self._read().get(daemon, {})

    def forget(self, daemon: str, image: str) -> None:
        with self._lock:
            found = self._read()
            if found.get(daemon, {}).pop(image, None) is not None:
                self._write(found)

    def _read(self) -> dict[str, dict[str, dict[str, Any]]]:
        try:
            found = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, found: dict[str, Any]) -> None:
        """Whole or not at all; a disk that can't take it costs us only the right to remove."""
        part = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        try:
            part.write_text(json.dumps(found))
            part.replace(self._path)
        except OSError:
            part.unlink(missing_ok=True)


class ImageBook:
    """The record, of one daemon."""

    def __init__(self, record: ImageRecord, api: Any) -> None:
        self._record = record
        self._api = api

    def brought(self, image: str, name: str) -> None:
        self._record.brought(self._daemon(), image, name)

    def used(self, image: str) -> None:
        if self._record.is_noted(image):
            self._record.used(self._daemon(), image)

    def _daemon(self) -> str:
        return str(self._api.info().get("ID", ""))
