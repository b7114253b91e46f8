"""A submission container of Morpheo's contract: an averaged perceptron, in Python alone.

-V VOLUME -T train     learns from VOLUME/train, starts from VOLUME/model where there is one, writes VOLUME/model
                       and {train,test}/pred/<file>
-V VOLUME -T predict   VOLUME/model and VOLUME/test → VOLUME/test/pred/<file>
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from pathlib import Path

EPOCHS = int(os.environ.get("EPOCHS", "2"))
CLASSES = 10

Weights = list[list[float]]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("-V", "--volume", type=Path, default=Path("/data"))
    parser.add_argument("-T", "--task", required=True, choices=("train", "predict"))
    options = parser.parse_args()
    volume: Path = options.volume
    model = volume / "model" / "weights.json"
    if options.task == "train":
        learned = train(volume / "train", json.loads(model.read_text()) if model.exists() else None)
        model.parent.mkdir(exist_ok=True)
        model.write_text(json.dumps(learned))
        predict(volume / "train", learned, has_target=True)
    predict(volume / "test", json.loads(model.read_text()), has_target=False)
    return 0


def train(folder: Path, start: Weights | None) -> Weights:
    examples = [(_features(row[:-1]), int(row[-1])) for path in _files(folder) for row in _rows(path)]
    width = len(examples[0][0])
    weights = start or [[0.0] * width for _ in range(CLASSES)]
    sums = [list(row) for row in weights]
    for _ in range(EPOCHS):
        for features, target in examples:
            said = _best(weights, features)
            if said != target:
                weights[target] = [w + x for w, x in zip(weights[target], features, strict=True)]
                weights[said] = [w - x for w, x in zip(weights[said], features, strict=True)]
        sums = [[a + b for a, b in zip(s, w, strict=True)] for s, w in zip(sums, weights, strict=True)]
    return sums


def predict(folder: Path, weights: Weights, *, has_target: bool) -> None:
    target = folder / "pred"
    target.mkdir(exist_ok=True)
    for path in _files(folder):
        rows = [row[:-1] if has_target else row for row in _rows(path)]
        with (target / path.name).open("w", newline="") as file:
            csv.writer(file).writerows([_best(weights, _features(row))] for row in rows)


def _best(weights: Weights, features: list[float]) -> int:
    scores = [sum(map(float.__mul__, row, features)) for row in weights]
    return scores.index(max(scores))


def _features(row: list[str]) -> list[float]:
    """Grey values 0 to 16, and a constant."""
    return [float(value) / 16 for value in row] + [1.0]


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.csv"))


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return [row for row in csv.reader(file) if row]


if __name__ == "__main__":
    sys.exit(main())
