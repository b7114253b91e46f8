"""Trains a classifier on scikit-learn's bundled digits (1,797 images of 8x8) and logs how it learns.

Every run logs parameters, a metric per epoch, and its artifacts with the ordinary `mlflow` client. Where no tracking
server is configured (MLFLOW_TRACKING_URI is not set), the metrics go to metrics.jsonl instead, which Nautilus reads.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import time
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

CLASSES = np.arange(10)
OUTPUTS = Path("outputs")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--model", choices=["mlp", "linear"], default="mlp", help="one hidden layer, or none")
    parser.add_argument("--hidden", type=int, default=32, help="units of the hidden layer (mlp)")
    parser.add_argument("--learning-rate", type=float, default=0.005)
    parser.add_argument("--alpha", type=float, default=0.0001, help="strength of the L2 penalty")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("NAUTILUS_SEED", "0")))
    parser.add_argument("--require", type=float, default=0.0, help="fail where the accuracy is below this")
    parser.add_argument(
        "--no-tracking", action="store_true", help="do not use MLflow, even if it is configured"
    )
    return parser.parse_args()


class MlflowLog:
    """Logs to the run that the job was started for (MLFLOW_RUN_ID), or to a new one."""

    def __init__(self, params: dict[str, object]) -> None:
        import mlflow

        self.mlflow = mlflow
        mlflow.start_run()
        mlflow.log_params(params)

    def metrics(self, values: dict[str, float], step: int) -> None:
        self.mlflow.log_metrics(values, step=step)

    def finish(self) -> None:
        self.mlflow.log_artifacts(str(OUTPUTS))
        self.mlflow.end_run()


class FileLog:
    """Writes metrics.jsonl: one {"key", "value", "step", "timestamp"} a line."""

    def __init__(self) -> None:
        self.file = Path("metrics.jsonl").open("w", encoding="utf-8")  # noqa: SIM115 (closed by finish)

    def metrics(self, values: dict[str, float], step: int) -> None:
        for key, value in values.items():
            point = {"key": key, "value": value, "step": step, "timestamp": time.time()}
            self.file.write(json.dumps(point) + "\n")
        self.file.flush()

    def finish(self) -> None:
        self.file.close()


def make_model(options: argparse.Namespace) -> MLPClassifier | SGDClassifier:
    if options.model == "linear":
        return SGDClassifier(
            loss="log_loss",
            alpha=options.alpha,
            learning_rate="constant",
            eta0=options.learning_rate,
            random_state=options.seed,
        )
    return MLPClassifier(
        hidden_layer_sizes=(options.hidden,),
        learning_rate_init=options.learning_rate,
        alpha=options.alpha,
        random_state=options.seed,
    )


def train_epoch(
    model: MLPClassifier | SGDClassifier, x: np.ndarray, y: np.ndarray, order: np.ndarray, size: int
) -> None:
    """One pass over the training images, in batches."""
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        model.partial_fit(x[batch], y[batch], classes=CLASSES)


def main() -> None:
    options = parse_arguments()
    images, labels = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        images / 16.0, labels, test_size=0.25, random_state=options.seed, stratify=labels
    )
    print(f"{len(x_train)} images to learn from, {len(x_test)} to test on; seed {options.seed}", flush=True)

    names = ("model", "hidden", "learning_rate", "alpha", "batch_size", "epochs")
    params = {name: getattr(options, name) for name in names}
    is_tracked = bool(os.environ.get("MLFLOW_TRACKING_URI")) and not options.no_tracking
    log = MlflowLog(params) if is_tracked else FileLog()

    model, shuffle = make_model(options), np.random.default_rng(options.seed)
    accuracy = 0.0
    for epoch in range(1, options.epochs + 1):
        train_epoch(model, x_train, y_train, shuffle.permutation(len(x_train)), options.batch_size)
        predicted = model.predict(x_test)
        accuracy = float(accuracy_score(y_test, predicted))
        values = {
            "train_loss": float(log_loss(y_train, model.predict_proba(x_train), labels=CLASSES)),
            "test_loss": float(log_loss(y_test, model.predict_proba(x_test), labels=CLASSES)),
            "accuracy": accuracy,
            "f1": float(f1_score(y_test, predicted, average="macro", zero_division=0)),
        }
        log.metrics(values, epoch)
        print(f"epoch {epoch:3d}  loss {values['train_loss']:.4f}  accuracy {accuracy:.4f}", flush=True)

    save(model, confusion_matrix(y_test, model.predict(x_test)), accuracy)
    log.finish()
    if accuracy < options.require:
        raise SystemExit(f"accuracy {accuracy:.4f} is below the required {options.require:.4f}")


def save(model: MLPClassifier | SGDClassifier, confusion: np.ndarray, accuracy: float) -> None:
    """The model and what is worth a look, in outputs/: the job keeps that folder."""
    OUTPUTS.mkdir(exist_ok=True)
    with (OUTPUTS / "model.pkl").open("wb") as file:
        pickle.dump(model, file)
    summary = {"accuracy": accuracy, "labels": CLASSES.tolist(), "confusion": confusion.tolist()}
    (OUTPUTS / "confusion_matrix.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
