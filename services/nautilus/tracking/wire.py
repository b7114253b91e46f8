"""MLflow's JSON on the wire: protocol-buffer JSON as its server reads and writes it.

Read: field names in snake_case or camelCase, int64 as a number or a string, doubles also as the strings
"NaN", "Infinity", "-Infinity", enums by name or number, `null` as unset, unknown fields ignored, a body
that is JSON of a JSON string (old clients), and the bare literals NaN and Infinity of Python's `json`.
Written: snake_case, int64 as numbers, non-finite doubles as strings, unset fields left out.

Source: https://protobuf.dev/programming-guides/json/, mlflow/utils/proto_json_utils.py (3.17)
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import orjson

from nautilus.tracking.errors import InvalidParameter

Fields = Mapping[str, Any]
T = TypeVar("T")
INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)
_INT32_RANGE = (-(2**31), 2**31 - 1)
_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_HINT = " See the API docs for more information about request parameters."


def parse_body(body: bytes) -> dict[str, Any]:
    """The request's object; an empty body is an empty object. Raises InvalidParameter."""
    if not body:
        return {}
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = _lenient(body)
    if isinstance(parsed, str):
        parsed = _lenient(parsed.encode())
    if parsed is None:
        return {}
    if not isinstance(parsed, dict):
        raise InvalidParameter("The request's body must be a JSON object.")
    return parsed


def _lenient(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidParameter("The request's body is not valid JSON.") from error


def camel(name: str) -> str:
    """`run_id` → `runId`, as protocol buffers do."""
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def field(fields: Fields, name: str) -> Any:
    """The raw value of a field in either spelling; None where unset. Raises InvalidParameter when both are given."""
    value = fields.get(name)
    if "_" in name:
        other = fields.get(camel(name))
        if other is not None:
            if value is not None:
                raise InvalidParameter(
                    f"Request specifies both '{name}' and '{camel(name)}'; provide only one of them."
                )
            return other
    return value


def missing(name: str) -> InvalidParameter:
    return InvalidParameter(f"Missing value for required parameter '{name}'.{_HINT}")


def wrong(name: str, value: object, message: str | None = None) -> InvalidParameter:
    shown = json.dumps(value, sort_keys=True, separators=(",", ":"), default=repr)[:500]
    reason = message if message is not None else f" Hint: Value was of type '{type(value).__name__}'."
    return InvalidParameter(f"Invalid value {shown} for parameter '{name}' supplied: {reason}{_HINT}")


def text(fields: Fields, name: str) -> str | None:
    """A string, None where unset. Raises InvalidParameter (also for NUL, which PostgreSQL cannot store)."""
    value = field(fields, name)
    if value is None:
        return None
    return checked_text(value, name)


def checked_text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise wrong(name, value)
    if "\x00" in value:
        raise wrong(name, value, "The NUL character is not allowed.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidParameter(f"Parameter '{name}' is not valid Unicode.") from error
    return value


def required_text(fields: Fields, name: str) -> str:
    value = text(fields, name)
    if not value:
        raise missing(name)
    return value


def as_int(value: object, name: str, low: int = INT64_MIN, high: int = INT64_MAX) -> int:
    """An integer as protobuf's JSON reads it. Raises InvalidParameter."""
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, float) and value.is_integer():
        number = int(value)
    elif isinstance(value, str) and len(value) <= 40:
        try:
            number = int(value)
        except ValueError:
            number = None
    if number is None or not low <= number <= high:
        raise wrong(name, value)
    return number


def int64(fields: Fields, name: str) -> int | None:
    value = field(fields, name)
    return None if value is None else as_int(value, name)


def int32(fields: Fields, name: str) -> int | None:
    value = field(fields, name)
    return None if value is None else as_int(value, name, *_INT32_RANGE)


def as_double(value: object, name: str) -> float:
    """A double as protobuf's JSON reads it. Raises InvalidParameter."""
    if isinstance(value, bool):
        raise wrong(name, value)
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError as error:
            raise wrong(name, str(value)[:40]) from error
    if isinstance(value, str):
        if value in _NON_FINITE:
            return _NON_FINITE[value]
        try:
            number = float(value) if len(value) <= 400 else math.nan
        except ValueError:
            number = math.nan
        if math.isfinite(number):
            return number
    raise wrong(name, value)


def flag(fields: Fields, name: str) -> bool | None:
    value = field(fields, name)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise InvalidParameter(f"Invalid boolean value: {value}, must be 'true' or 'false'.")


def enum(fields: Fields, name: str, numbers: Mapping[str, int]) -> int | None:
    """A value of an enumeration, by name or number. Raises InvalidParameter."""
    value = field(fields, name)
    if value is None:
        return None
    if isinstance(value, str) and value in numbers:
        return numbers[value]
    if isinstance(value, int | str) and not isinstance(value, bool):
        number = as_int(value, name)
        if number in numbers.values():
            return number
    raise wrong(name, value)


def items(fields: Fields, name: str, read: Callable[[Any, str], T]) -> list[T]:
    """A repeated field, each element read by `read(value, path)`; unset is empty. Raises InvalidParameter."""
    value = field(fields, name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise wrong(name, value)
    return [read(item, f"{name}[{index}]") for index, item in enumerate(value)]


def message(value: object, path: str) -> Fields:
    if not isinstance(value, dict):
        raise wrong(path, value)
    return value


def unset_left_out(**fields: Any) -> dict[str, Any]:
    """The fields of an answer without those that are None or an empty list."""
    return {name: value for name, value in fields.items() if value is not None and value != []}
