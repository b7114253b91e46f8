"""Typed parameters of an experiment, and sweeps over them."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence

from nautilus.errors import InvalidParameter, TooLarge

ParamValue = str | int | float | bool
Params = dict[str, ParamValue]

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,99}")
VALUE_LIMIT_BYTES = 64 * 1024
TOTAL_LIMIT_BYTES = 512 * 1024
COUNT_LIMIT = 200
SWEEP_LIMIT = 256
"""Experiments in one sweep."""


def check_params(raw: Mapping[str, object]) -> Params:
    """The parameters as they are kept. Raises InvalidParameter, naming the one at fault; TooLarge."""
    if len(raw) > COUNT_LIMIT:
        raise TooLarge(f"{len(raw)} parameters: at most {COUNT_LIMIT} are taken")
    params = {check_name(name): _check_value(name, value) for name, value in raw.items()}
    if sum(len(text_of(value).encode()) for value in params.values()) > TOTAL_LIMIT_BYTES:
        raise TooLarge(
            f"the parameters are longer than {TOTAL_LIMIT_BYTES // 1024} KiB together; put them in a file"
        )
    return params


def expand_sweep(
    params: Mapping[str, object], sweep: Sequence[object] | Mapping[str, object] | None
) -> list[Params]:
    """One parameter set per experiment, each over the common `params`.

    A list gives the sets themselves; a mapping gives values per parameter, and every combination is made,
    the last parameter varying fastest. Without a sweep there is one set. Raises InvalidParameter, TooLarge.
    """
    if sweep is None:
        return [check_params(params)]
    count = len(sweep) if not isinstance(sweep, Mapping) else math.prod(len(v) for v in _grid(sweep).values())
    if count == 0 or not sweep:
        raise InvalidParameter("the sweep is empty: give at least one parameter set")
    if count > SWEEP_LIMIT:
        raise TooLarge(f"the sweep has {count} parameter sets: at most {SWEEP_LIMIT} are taken at a time")
    return [check_params({**params, **chosen}) for chosen in _parameter_sets(sweep)]


def text_of(value: ParamValue) -> str:
    """How a value is written in a command and in tracking: `true`/`false`, numbers as in JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)


def check_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise InvalidParameter(
            f"{name[:100]!r} cannot name a parameter: use letters, digits, _ . - "
            "(at most 100), first a letter or _"
        )
    return name


def _check_value(name: str, value: object) -> ParamValue:
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise InvalidParameter(f"parameter {name}: whole numbers go from -2^63 to 2^63-1")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidParameter(
                f"parameter {name}: {value} is not a number that JSON knows; pass it as text"
            )
        return value
    if isinstance(value, str):
        return _check_text(name, value)
    raise InvalidParameter(f"parameter {name}: a value is text, a number, true or false")


def _check_text(name: str, value: str) -> str:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidParameter(f"parameter {name}: the text is not valid Unicode") from None
    if "\0" in value:
        raise InvalidParameter(f"parameter {name}: a NUL character cannot be passed to a program")
    if size > VALUE_LIMIT_BYTES:
        raise TooLarge(f"parameter {name} is {size} bytes long: at most {VALUE_LIMIT_BYTES} are taken")
    return value


def _grid(sweep: Mapping[str, object]) -> dict[str, list[object]]:
    grid: dict[str, list[object]] = {}
    for name, values in sweep.items():
        if not isinstance(values, list):
            raise InvalidParameter(f"the sweep's {name!r} must be a list of values")
        grid[name] = values
    return grid


def _parameter_sets(sweep: Sequence[object] | Mapping[str, object]) -> list[dict[str, object]]:
    if isinstance(sweep, Mapping):
        grid = _grid(sweep)
        return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    sets: list[dict[str, object]] = []
    for index, chosen in enumerate(sweep):
        if not isinstance(chosen, dict):
            raise InvalidParameter(f"the sweep's parameter set {index + 1} must map names to values")
        sets.append(chosen)
    return sets
