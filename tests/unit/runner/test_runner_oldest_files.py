"""Folders of the runner's that are kept below a size."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nautilus_runner.cache import remove_archive
from nautilus_runner.files.oldest import files_below, remove_oldest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five files of ten bytes, used one second after another."""
    for number in range(5):
        path = tmp_path / str(number % 2) / f"{number}.zip"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(10))
        os.utime(path, (1000 + number, 1000 + number))
    return tmp_path


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in files_below(folder))


def never(_: Path) -> bool:
    return False


def test_what_was_used_longest_ago_goes_until_the_rest_fits(folder: Path) -> None:
    assert remove_oldest(files_below(folder), 25, never) == 30
    assert left(folder) == ["3.zip", "4.zip"]
    assert remove_oldest(files_below(folder), 20, never) == 0


def test_what_is_kept_stays_and_counts(folder: Path) -> None:
    assert remove_oldest(files_below(folder), 25, lambda path: path.name == "0.zip") == 30
    assert left(folder) == ["0.zip", "4.zip"]
    assert remove_oldest(files_below(folder), 0, lambda path: path.name == "0.zip") == 10
    assert left(folder) == ["0.zip"]


def test_what_is_stale_goes_though_it_would_fit(folder: Path) -> None:
    assert remove_oldest(files_below(folder), 1000, never, stale_before=1002) == 20
    assert left(folder) == ["2.zip", "3.zip", "4.zip"]


def test_only_files_of_the_kind_are_looked_at_and_what_is_beside_one_goes_with_it(folder: Path) -> None:
    for name in ("0/0.etag", "0/2.etag", "0/x.part"):
        (folder / name).write_bytes(bytes(1000))
    assert remove_oldest(files_below(folder, ".zip"), 40, never, remove=remove_archive) == 10
    assert left(folder) == ["1.zip", "2.etag", "2.zip", "3.zip", "4.zip", "x.part"]


def test_files_and_folders_may_go_while_they_are_listed(folder: Path) -> None:
    def racing() -> Iterator[Path]:
        for path in files_below(folder):
            if path.parent.name == "1":
                path.unlink()
            yield path
        (folder / "1").rmdir()

    assert remove_oldest(racing(), 0, never) == 30
    assert left(folder) == [] and left(folder / "nowhere") == []
