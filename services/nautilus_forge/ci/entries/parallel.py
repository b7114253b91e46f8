"""`parallel`: a number, or a matrix of variables.

Source: lib/gitlab/ci/config/entry/product/{parallel,matrix,variables}.rb, config/normalizer/matrix_strategy.rb.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from math import prod
from typing import Any

from nautilus_forge.ci.entries.checks import Problems, Spot, check_keys, check_required
from nautilus_forge.ci.entries.config import Parallel
from nautilus_forge.ci.entries.keywords import PARALLEL
from nautilus_forge.ci.scalars import to_text

MAX_INSTANCES = 200

Rows = tuple[Mapping[str, tuple[str, ...]], ...]


def read_parallel(value: Any, spot: Spot, problems: Problems) -> Parallel | None:
    """How often the job runs, and with what."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(value, spot, problems)
    if not isinstance(value, dict):
        problems.add(f"{spot.where} should be an integer or a hash", spot.place)
        return None
    return problems.shared("parallel", value, lambda: _matrix(value, spot, problems))


def read_selection(value: Any, spot: Spot, problems: Problems) -> Rows | None:
    """`needs:parallel`: which instances of a job with a matrix are needed."""
    if not isinstance(value, dict):
        if isinstance(value, int | float) and not isinstance(value, bool):
            problems.add(f'{spot.where} config cannot use "parallel: <number>".', spot.place)
        else:
            problems.add(f"{spot.where} should be an integer or a hash", spot.place)
        return None
    return problems.shared("selection", value, lambda: _rows(value, spot, problems))


def instances(rows: Rows) -> tuple[Mapping[str, str], ...]:
    """The variables of each instance, in GitLab's order: the last variable of a row changes fastest."""
    return tuple(dict(zip(row, values, strict=True)) for row in rows for values in product(*row.values()))


def _number(value: int | float, spot: Spot, problems: Problems) -> Parallel | None:
    if isinstance(value, float):
        problems.add(f"{spot.where} config must be an integer", spot.place)
    elif value < 1:
        problems.add(f"{spot.where} config must be greater than or equal to 1", spot.place)
    elif value > MAX_INSTANCES:
        problems.add(f"{spot.where} config must be less than or equal to {MAX_INSTANCES}", spot.place)
    else:
        return Parallel(value)
    return None


def _matrix(value: dict[Any, Any], spot: Spot, problems: Problems) -> Parallel | None:
    rows = _rows(value, spot, problems)
    if rows is None:
        return None
    total = sum(prod(len(values) for values in row.values()) for row in rows)
    if total > MAX_INSTANCES:
        at = spot.key(value, "matrix")
        problems.add(f"{at.where} config generates too many jobs (maximum is {MAX_INSTANCES})", at.place)
        return None
    return Parallel(total, rows)


def _rows(value: dict[Any, Any], spot: Spot, problems: Problems) -> Rows | None:
    check_keys(value, PARALLEL, spot, problems)
    check_required(value, "matrix", spot, problems)
    if "matrix" not in value:
        return None
    at = spot.key(value, "matrix")
    matrix = value["matrix"]
    if not isinstance(matrix, list) or not all(isinstance(row, dict) for row in matrix):
        problems.add(f"{at.where} config should be an array of hashes", at.place)
        return None
    if not matrix:
        problems.add(f"{at.where} config can't be blank", at.place)
        return None
    found = [_row(row, at.item(matrix, i, "variables"), problems) for i, row in enumerate(matrix)]
    rows = tuple(row for row in found if row is not None)
    return rows if len(rows) == len(matrix) else None


def _row(row: dict[Any, Any], spot: Spot, problems: Problems) -> Mapping[str, tuple[str, ...]] | None:
    if not row:
        problems.add(f"{spot.where} config requires at least 1 items", spot.place)
        return None
    values = {key: item if isinstance(item, list) else [item] for key, item in row.items()}
    if any(not items or not all(_is_scalar(item) for item in items) for items in values.values()) or any(
        isinstance(key, bool | float) or key is None for key in values
    ):
        problems.add(
            f"{spot.where} config should be a hash of key value pairs, value can be an array", spot.place
        )
        return None
    return {to_text(key): tuple(to_text(item) for item in items) for key, items in values.items()}


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float)
