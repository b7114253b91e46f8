"""How containers come to folders of ours, read-only: bound where the daemon sees the same disk, else from a volume.

Whether it does is tried, once for a daemon: a container that is never started binds a folder with a word in it, and
the word is read back. A runner that lives in a container finds its folder under the path that the host knows it by.
A daemon elsewhere gets each content once, in a volume of ours that all jobs there share.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import tarfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from docker.errors import APIError, DockerException, NotFound

from nautilus_runner.executors import container_files, containers
from nautilus_runner.executors.base import SharedFolder
from nautilus_runner.files.removal import remove_tree

ROLE = "data"
MARKS = "volumes"  # below the store's folder: which volumes are whole
_PROBE = "/nautilus/probe"
_FILL = "/nautilus/fill"


class DataMounts:
    """For one daemon. Blocking; safe in several threads."""

    def __init__(self, api: Any, system_id: str) -> None:
        self._api = api
        self._system_id = system_id
        self._roots: dict[Path, tuple[str, str] | None] = {}
        self._lock = threading.Lock()

    def mounts(self, image: str, job: str, shared: Sequence[SharedFolder]) -> list[dict[str, Any]]:
        """The mounts of a job's container. `image` is one that is there. Raises DockerException, SystemFailure."""
        found = {one.name: one for one in shared}
        return [self._mount(image, job, one) for one in found.values()]

    def _mount(self, image: str, job: str, shared: SharedFolder) -> dict[str, Any]:
        root = shared.folder.parents[1]
        with self._lock:
            if root not in self._roots:
                self._roots[root] = self._outside(image, job, root)
        if (found := self._roots[root]) is not None:
            outside, propagation = found
            return bind(str(PurePosixPath(outside) / shared.name), shared.seen_at, propagation)
        with self._lock:
            return volume(self._filled(image, job, root, shared), shared.seen_at)

    # ---- the same disk

    def _outside(self, image: str, job: str, root: Path) -> tuple[str, str] | None:
        """The path by which the daemon knows our folder, and how it can be bound; None where it does not see it.

        Below its own folder, where volumes lie, the daemon wants `rslave`, which is refused elsewhere.
        """
        word = secrets.token_hex(16)
        probe = root / "probe"
        remove_tree(probe)
        probe.mkdir(mode=0o700)
        try:
            (probe / word).write_text(word)
            for path in candidates(root, self._own_mounts()):
                for propagation in ("rprivate", "rslave"):
                    if self._sees(image, job, bind(f"{path}/probe", _PROBE, propagation), word):
                        return path, propagation
            return None
        finally:
            remove_tree(probe)

    def _sees(self, image: str, job: str, mount: Mapping[str, Any], word: str) -> bool:
        made = ""
        try:
            made = self._create(image, job, mount)
            return container_files.read_file(self._api, made, f"{_PROBE}/{word}") == word.encode()
        except DockerException:
            return False
        finally:
            self._remove(made)

    def _own_mounts(self) -> Iterable[tuple[str, str]]:
        """Where what we see comes from: (path inside, path on the host) of the container that we live in."""
        own = containers.own_container_id(containers.read_mountinfo())
        if own is None:
            return ()
        try:
            mounts = self._api.inspect_container(own).get("Mounts") or []
        except DockerException:
            return ()
        return [(mount["Destination"], mount["Source"]) for mount in mounts if mount.get("Source")]

    # ---- another disk

    def _filled(self, image: str, job: str, root: Path, shared: SharedFolder) -> str:
        """A volume with this content; made whole before it is marked so."""
        name = volume_name(self._system_id, shared.name)
        mark = root / MARKS / name
        daemon = str(self._api.info().get("ID", ""))
        if _json(mark).get("daemon") == daemon and self._exists(name):
            os.utime(mark)
            return name
        with contextlib.suppress(NotFound):
            self._api.remove_volume(name, force=True)
        labels = {containers.LABEL_RUNNER: self._system_id, containers.LABEL_ROLE: ROLE}
        self._api.create_volume(name, labels=labels)
        made = self._create(image, job, volume(name, _FILL) | {"ReadOnly": False})
        try:
            container_files.put_tar(self._api, made, _FILL, lambda tar: _write(tar, shared.folder))
        finally:
            self._remove(made)
        mark.parent.mkdir(mode=0o700, exist_ok=True)
        mark.write_text(json.dumps({"daemon": daemon, "size": shared.size}))
        return name

    def _exists(self, name: str) -> bool:
        try:
            self._api.inspect_volume(name)
        except NotFound:
            return False
        return True

    # ---- containers that never run

    def _create(self, image: str, job: str, mount: Mapping[str, Any]) -> str:
        config = containers.container_config(
            image,
            host={"Mounts": [mount], "NetworkMode": "none"},
            environment={},
            labels=containers.labels(self._system_id, job, ROLE),
            command=["true"],
            entrypoint=None,
        )
        return str(self._api.create_container_from_config(config)["Id"])

    def _remove(self, container: str) -> None:
        with contextlib.suppress(NotFound, APIError):
            if container:
                self._api.remove_container(container, force=True)


def bind(source: str, target: str, propagation: str = "rprivate") -> dict[str, Any]:
    """Exactly this folder, read-only; never made where it is not there."""
    options = {"Propagation": propagation}
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": True, "BindOptions": options}


def volume(name: str, target: str) -> dict[str, Any]:
    return {
        "Type": "volume",
        "Source": name,
        "Target": target,
        "ReadOnly": True,
        "VolumeOptions": {"NoCopy": True},
    }


def volume_name(system_id: str, content: str) -> str:
    kind, _, sha256 = content.partition("/")
    return f"nautilus-{system_id[-6:]}-{kind}-{sha256[:40]}"


def candidates(root: Path, own: Iterable[tuple[str, str]]) -> list[str]:
    """Paths by which a daemon might know `root`: through the mounts of our own container, or as it is."""
    inside = PurePosixPath(root)
    through = [
        str(PurePosixPath(source) / inside.relative_to(target))
        for target, source in sorted(own, key=lambda mount: -len(mount[0]))
        if inside.is_relative_to(target)
    ]
    return [*through, str(root)]


def _write(tar: tarfile.TarFile, folder: Path) -> None:
    def ours(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        return info

    for path in sorted(folder.iterdir()):
        tar.add(path, path.name, filter=ours)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
