"""What this runner has in a Docker daemon: images that it brought, volumes of inputs, leftovers of jobs."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from docker.errors import DockerException, NotFound

from nautilus_runner.building.shelf import LABEL_BUILD, REPOSITORY
from nautilus_runner.executors import containers
from nautilus_runner.executors.daemon import remove_labelled
from nautilus_runner.executors.data_mounts import MARKS, ROLE
from nautilus_runner.executors.image_record import ImageRecord
from nautilus_runner.pruning.plan import Item

_REST_S = 600.0  # an image that was used just now is about to get its container


class ImageShelf:
    """Only images in the record; one that somebody gave another name since is his, and stays."""

    def __init__(self, api: Any, record: ImageRecord, is_local: bool) -> None:
        self._api = api
        self._record = record
        self._is_local = is_local
        self._daemon = ""

    def items(self) -> Iterator[Item]:
        with contextlib.suppress(DockerException, OSError):
            self._daemon = str(self._api.info().get("ID", ""))
            used = {one["ImageID"] for one in self._api.containers(all=True)}
            for image, entry in self._record.of(self._daemon).items():
                found = self._found(image, entry["names"])
                if found is None:
                    continue
                is_held = image in used or time.time() - entry["used_at"] < _REST_S
                name = ", ".join(entry["names"])
                yield Item(
                    "image",
                    image,
                    int(found.get("Size", 0)),
                    entry["used_at"],
                    is_held,
                    is_local=self._is_local,
                    about=name,
                )

    def remove(self, item: Item) -> bool:
        """By its names, never by force: the daemon refuses what a container uses."""
        entry = self._record.of(self._daemon).get(item.name)
        if entry is None:
            return False
        try:
            found = self._found(item.name, entry["names"])
            tags = (found or {}).get("RepoTags") or [item.name]
            for name in (tag for tag in tags if not _is_built(tag)):
                self._api.remove_image(name, force=False, noprune=True)
        except NotFound:
            pass
        except (DockerException, OSError):
            return False
        self._record.forget(self._daemon, item.name)
        return True

    def _found(self, image: str, names: list[str]) -> dict[str, Any] | None:
        """The image as the daemon has it; None (and out of the record) where it is gone or somebody else's too."""
        try:
            found: dict[str, Any] = self._api.inspect_image(image)
        except NotFound:
            self._record.forget(self._daemon, image)
            return None
        ours = {_whole(name) for name in names}
        if {_whole(tag) for tag in found.get("RepoTags") or [] if not _is_built(tag)} - ours:
            self._record.forget(self._daemon, image)
            return None
        return found


class BuiltImageShelf:
    """Images that were built here from a job's Dockerfile; each has our label and one tag of our repository.

    The name that one was pushed by is in the record, for `ImageShelf`.
    """

    def __init__(self, api: Any, system_id: str, uses: Path, is_local: bool) -> None:
        self._api = api
        self._labels = [f"{containers.LABEL_RUNNER}={system_id}", LABEL_BUILD]
        self._uses = uses
        self._is_local = is_local

    def items(self) -> Iterator[Item]:
        with contextlib.suppress(DockerException, OSError):
            used = {one["ImageID"] for one in self._api.containers(all=True)}
            for image in self._api.images(name=REPOSITORY, filters={"label": self._labels}):
                tag = next(filter(_is_built, image.get("RepoTags") or ()), "")
                used_at = self._used_at(tag.rpartition(":")[2], float(image.get("Created") or 0))
                is_held = image["Id"] in used or time.time() - used_at < _REST_S
                if tag:
                    size = int(image.get("Size", 0))
                    yield Item("built-image", tag, size, used_at, is_held, is_local=self._is_local)

    def remove(self, item: Item) -> bool:
        try:
            self._api.remove_image(item.name, force=False)
        except NotFound:
            pass
        except (DockerException, OSError):
            return False
        (self._uses / item.name.rpartition(":")[2]).unlink(missing_ok=True)
        return True

    def _used_at(self, key: str, created_at: float) -> float:
        try:
            return (self._uses / key).stat().st_mtime
        except OSError:
            return created_at


class VolumeShelf:
    """Volumes that hold inputs for a daemon on another disk; it refuses to remove one that a container uses."""

    def __init__(self, api: Any, system_id: str, marks: Path, is_local: bool) -> None:
        self._api = api
        self._labels = [f"{containers.LABEL_RUNNER}={system_id}", f"{containers.LABEL_ROLE}={ROLE}"]
        self._marks = marks
        self._is_local = is_local

    def items(self) -> Iterator[Item]:
        with contextlib.suppress(DockerException, OSError):
            used = {
                mount.get("Name")
                for one in self._api.containers(all=True)
                for mount in one.get("Mounts") or []
            }
            for volume in self._api.volumes(filters={"label": self._labels}).get("Volumes") or []:
                name = str(volume["Name"])
                used_at, size = self._mark(name)
                yield Item("volume", name, size, used_at, name in used, is_local=self._is_local)

    def remove(self, item: Item) -> bool:
        try:
            (self._marks / item.name).unlink(missing_ok=True)
            self._api.remove_volume(item.name, force=False)
        except NotFound:
            pass
        except (DockerException, OSError):
            return False
        return True

    def _mark(self, name: str) -> tuple[float, int]:
        """When it was last used, and how much is in it; a volume without a mark is not whole."""
        try:
            mark = self._marks / name
            return mark.stat().st_mtime, int(json.loads(mark.read_bytes())["size"])
        except (OSError, ValueError, KeyError):
            return 0.0, 0


class LeftoverShelf:
    """Containers, networks and volumes of jobs that the journal does not know."""

    def __init__(self, api: Any, system_id: str, is_known: Callable[[str], bool]) -> None:
        self._api = api
        self._label = f"{containers.LABEL_RUNNER}={system_id}"
        self._is_known = is_known

    def items(self) -> Iterator[Item]:
        with contextlib.suppress(DockerException, OSError):
            keys: dict[str, float] = {}
            for thing in self._api.containers(all=True, filters={"label": self._label}):
                self._note(keys, thing, float(thing.get("Created") or 0))
            for thing in self._api.volumes(filters={"label": self._label}).get("Volumes") or []:
                self._note(keys, thing, _timestamp(thing.get("CreatedAt") or ""))
            for key, at in keys.items():
                yield Item("container", key, 0, at, is_leftover=True, is_local=False)

    def remove(self, item: Item) -> bool:
        if self._is_known(item.name):
            return False
        try:
            remove_labelled(self._api, f"{containers.LABEL_JOB}={item.name}")
        except (DockerException, OSError):
            return False
        return True

    def _note(self, keys: dict[str, float], thing: dict[str, Any], at: float) -> None:
        key = (thing.get("Labels") or {}).get(containers.LABEL_JOB, "")
        if key and not self._is_known(key):
            keys[key] = max(at, keys.get(key, 0.0))


def marks_of(data: Path) -> Path:
    return data / MARKS


def _timestamp(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def _is_built(tag: str) -> bool:
    """A tag of what was built here: `BuiltImageShelf` removes it."""
    return tag.startswith(f"{REPOSITORY}:")


def _whole(name: str) -> str:
    """An image's name with its tag, as the daemon lists it."""
    name = name.removeprefix("docker.io/library/").removeprefix("docker.io/")
    return name if "@" in name or ":" in name.rpartition("/")[2] else f"{name}:latest"
