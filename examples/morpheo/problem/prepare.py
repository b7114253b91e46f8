"""Hidden data and submission data from one file of rows: `prepare.py ROWS.csv[.gz] HIDDEN SUBMISSION`.

A row is its features and, last, its target. Each fourth row is for tests. Files of 100 rows each; HIDDEN has all of
them with their targets, SUBMISSION only those for training (the tests come by `detarget`).
"""

from __future__ import annotations

import csv
import gzip
import shutil
import sys
from pathlib import Path

ROWS_PER_FILE = 100
TEST_EACH = 4


def main(source: str, hidden: Path, submission: Path) -> None:
    opened = gzip.open if source.endswith(".gz") else open
    with opened(source, "rt") as file:
        rows = [row for row in csv.reader(file) if row]
    parts = {
        "train": [row for number, row in enumerate(rows) if number % TEST_EACH],
        "test": rows[::TEST_EACH],
    }
    for part, found in parts.items():
        folder = hidden / part
        folder.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(found), ROWS_PER_FILE):
            with (folder / f"{start // ROWS_PER_FILE:03}.csv").open("w", newline="") as file:
                csv.writer(file).writerows(found[start : start + ROWS_PER_FILE])
    shutil.copytree(hidden / "train", submission / "train", dirs_exist_ok=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
