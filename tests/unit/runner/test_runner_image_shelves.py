"""Images that a runner brought to a daemon: what it may remove, and by which of their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docker.errors import ImageNotFound

from nautilus_runner.building.shelf import Shelf
from nautilus_runner.executors.image_record import ImageBook, ImageRecord
from nautilus_runner.pruning.docker_shelves import BuiltImageShelf, ImageShelf

IMAGE = "sha256:" + "1" * 64
PUSHED = "registry:5050/group/project/tools:1"
KEY = "k" * 32
BUILT = f"nautilus-build:{KEY}"


class Daemon:
    """Of one image with several names."""

    def __init__(self, *tags: str) -> None:
        self.tags = [*tags]

    def info(self) -> dict[str, Any]:
        return {"ID": "a-daemon"}

    def containers(self, **_: Any) -> list[dict[str, Any]]:
        return []

    def images(self, **_: Any) -> list[dict[str, Any]]:
        return [{"Id": IMAGE, "RepoTags": self.tags, "Size": 7, "Created": 1}] if self.tags else []

    def inspect_image(self, name: str) -> dict[str, Any]:
        if not self.tags:
            raise ImageNotFound(name)
        return {"Id": IMAGE, "RepoTags": self.tags, "Size": 7}

    def remove_image(self, name: str, **_: Any) -> None:
        if name not in self.tags:
            raise ImageNotFound(name)
        self.tags.remove(name)


def shelf_of(daemon: Daemon, folder: Path, *names: str) -> ImageShelf:
    record = ImageRecord(folder / "images.json")
    for name in names:
        ImageBook(record, daemon).brought(IMAGE, name)
    return ImageShelf(daemon, record, is_local=True)


def test_a_built_image_and_the_name_that_it_was_pushed_by_are_removed_each_by_itself(tmp_path: Path) -> None:
    daemon = Daemon(PUSHED, BUILT)
    pushed = shelf_of(daemon, tmp_path, PUSHED)
    built = BuiltImageShelf(daemon, "s_1", tmp_path, is_local=True)
    [by_name], [by_build] = pushed.items(), built.items()
    assert (by_name.about, by_build.name) == (PUSHED, BUILT)
    assert pushed.remove(by_name)
    assert daemon.tags == [BUILT]
    assert built.remove(by_build)
    assert daemon.tags == []
    assert [*pushed.items(), *built.items()] == []


def test_an_image_that_somebody_gave_another_name_since_stays(tmp_path: Path) -> None:
    daemon = Daemon(PUSHED, BUILT, "somebody/s:1")
    assert [*shelf_of(daemon, tmp_path, PUSHED).items()] == []


def test_making_room_for_builds_takes_no_name_that_an_image_was_pushed_by(tmp_path: Path) -> None:
    daemon = Daemon(PUSHED, BUILT)
    Shelf(daemon, "s_1", tmp_path / "uses").prune(0)
    assert daemon.tags == [PUSHED]
