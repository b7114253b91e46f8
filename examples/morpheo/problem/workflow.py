"""A problem workflow container of Morpheo's contract: digits, judged by the share that is recognised.

    -T detarget -i HIDDEN -s SUBMISSION   HIDDEN/test without targets → SUBMISSION/test
    -T perf     -i HIDDEN -s SUBMISSION   SUBMISSION/{train,test}/pred against HIDDEN → HIDDEN/perf/performance.json

Source: Morpheo's container specification (hypnogram-wf).
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("-T", "--task", required=True, choices=("detarget", "perf"))
    parser.add_argument("-i", "--hidden", type=Path, default=Path("/hidden_data"))
    parser.add_argument("-s", "--submission", type=Path, default=Path("/submission_data"))
    options = parser.parse_args()
    if options.task == "detarget":
        return detarget(options.hidden, options.submission)
    return perf(options.hidden, options.submission)


def detarget(hidden: Path, submission: Path) -> int:
    target = submission / "test"
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted((hidden / "test").glob("*.csv")):
        with (target / path.name).open("w", newline="") as file:
            csv.writer(file).writerows(row[:-1] for row in _rows(path))
    return 0


def perf(hidden: Path, submission: Path) -> int:
    """Each file's share of right predictions; `perf` is the tests' mean. A missing prediction is a wrong one."""
    found = {part: _part_perf(hidden / part, submission / part / "pred") for part in ("train", "test")}
    test = found["test"]
    result = {
        "perf": sum(test.values()) / len(test),
        "train_perf": found["train"],
        "test_perf": test,
    }
    folder = hidden / "perf"
    folder.mkdir(exist_ok=True)
    (folder / "performance.json").write_text(json.dumps(result, indent=2) + "\n")
    print(f"perf {result['perf']:.4f}")
    return 0


def _part_perf(truth: Path, predicted: Path) -> dict[str, float]:
    found = {}
    for path in sorted(truth.glob("*.csv")):
        wanted = [row[-1] for row in _rows(path)]
        given = predicted / path.name
        said = [row[0] for row in _rows(given)] if given.exists() else []
        right = sum(one == other for one, other in zip(wanted, said, strict=False))
        found[path.name] = right / len(wanted)
    return found


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return [row for row in csv.reader(file) if row]


if __name__ == "__main__":
    sys.exit(main())
