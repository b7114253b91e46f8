"""Points of curves, on their way from a request's JSON into PostgreSQL: the hot path.

A batch becomes four columns (key, step, timestamp, value) which go over as four binary arrays with one prepared
statement. It joins the run (a deleted or unknown one takes nothing and is reported), inserts the points, leaves
out what is already there (so a repeated request changes nothing) and moves each curve's latest point forward by
MLflow's rule, the greatest (step, timestamp, value): one round trip, one transaction.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg

from nautilus.tracking.errors import InvalidParameter
from nautilus.tracking.pool import Connection, Float8Array, Int4Array, Int8Array
from nautilus.tracking.validation import check_metric_key
from nautilus.tracking.wire import (
    INT64_MAX,
    INT64_MIN,
    as_double,
    as_int,
    checked_text,
    message,
    missing,
    wrong,
)

MAX_KNOWN_KEYS = 50_000

_INSERT_NEW = """
WITH run AS MATERIALIZED (
  SELECT id FROM tracking_run WHERE id = %s AND deleted_at IS NULL
), point AS MATERIALIZED (
  SELECT run.id AS run, p.key, p.step, p.timestamp_ms, p.value
  FROM run, unnest(%s, %s, %s, %s) AS p(key, step, timestamp_ms, value)
), stored AS (
  INSERT INTO tracking_metric (run, key, step, timestamp_ms, value) SELECT * FROM point
), latest AS (
  INSERT INTO tracking_latest_metric AS old (run, key, step, timestamp_ms, value)
  SELECT DISTINCT ON (key) * FROM point ORDER BY key, step DESC, timestamp_ms DESC, value DESC
  ON CONFLICT (run, key) DO UPDATE
    SET step = excluded.step, timestamp_ms = excluded.timestamp_ms, value = excluded.value
    WHERE (excluded.step, excluded.timestamp_ms, excluded.value) > (old.step, old.timestamp_ms, old.value)
)
SELECT id FROM run
"""
_INSERT = _INSERT_NEW.replace("SELECT * FROM point\n", "SELECT * FROM point ON CONFLICT DO NOTHING\n", 1)


@dataclass
class Points:
    """Points of one run, by column, in the order of the request. `timestamps_ms` are since the epoch."""

    keys: list[str]
    steps: list[int]
    timestamps_ms: list[int]
    values: list[float]

    @classmethod
    def none(cls) -> Points:
        return cls([], [], [], [])

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, key: str, step: int, timestamp_ms: int, value: float) -> None:
        self.keys.append(key)
        self.steps.append(step)
        self.timestamps_ms.append(timestamp_ms)
        self.values.append(value)


class KeyNumbers:
    """Names of metrics and their numbers, remembered for as long as the process lives."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    async def numbers(self, connection: Connection, names: Iterable[str]) -> dict[str, int]:
        """A number for each name, made where there is none. The names have been checked."""
        unknown = sorted({name for name in names if name not in self.known})
        if not unknown:
            return self.known
        if len(self.known) + len(unknown) > MAX_KNOWN_KEYS:
            self.known = {}
            unknown = sorted(set(names))
        await connection.execute(
            "INSERT INTO tracking_metric_key (name) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING",
            (unknown,),
        )
        rows = await connection.execute(
            "SELECT name, id FROM tracking_metric_key WHERE name = ANY(%s)", (unknown,)
        )
        self.known.update({str(name): int(number) for name, number in await rows.fetchall()})
        return self.known


async def insert(connection: Connection, keys: KeyNumbers, run: int, points: Points) -> bool:
    """Stores the points; outside of a transaction they are on disk when it returns.

    False, and nothing stored, where the run is deleted or unknown. Points that are there already are rare (a
    repeated request), and looking for them costs a third of the time: so the first try does not.
    """
    numbers = await keys.numbers(connection, points.keys)
    columns = (
        run,
        int4_array([numbers[key] for key in points.keys]),
        int8_array(points.steps),
        int8_array(points.timestamps_ms),
        float8_array(points.values),
    )
    rows = None
    if connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
        with suppress(psycopg.errors.UniqueViolation):
            rows = await connection.execute(_INSERT_NEW, columns, prepare=True)
    if rows is None:
        rows = await connection.execute(_INSERT, columns, prepare=True)
    return await rows.fetchone() is not None


def read_metrics(metrics: object, known: Mapping[str, int]) -> Points:
    """The points of log-batch's `metrics`. `known` holds names that were checked before.

    Raises InvalidParameter, naming the element.
    """
    if metrics is None:
        return Points.none()
    if not isinstance(metrics, list):
        raise wrong("metrics", metrics)
    points = Points.none()
    add_key, add_step = points.keys.append, points.steps.append
    add_timestamp, add_value = points.timestamps_ms.append, points.values.append
    for index, metric in enumerate(metrics):
        try:
            key, value, timestamp = metric["key"], metric["value"], metric["timestamp"]
            step = metric.get("step", 0)
            is_plain = (
                type(value) is float
                and type(timestamp) is int
                and type(step) is int
                and key in known
                and 0 <= timestamp <= INT64_MAX
                and INT64_MIN <= step <= INT64_MAX
            )
        except (KeyError, TypeError, AttributeError):
            is_plain = False
        if not is_plain:
            key, step, timestamp, value = read_metric(metric, f"metrics[{index}]")
        add_key(key)
        add_step(step)
        add_timestamp(timestamp)
        add_value(value)
    return points


def read_metric(metric: object, path: str = "") -> tuple[str, int, int, float]:
    """One point as (key, step, timestamp in ms, value). Raises InvalidParameter."""
    fields = message(metric, path or "metric")
    prefix = f"{path}." if path else ""
    raw: dict[str, Any] = {name: fields.get(name) for name in ("key", "value", "timestamp")}
    for name, value in raw.items():
        if value is None or value == "":
            raise missing(prefix + name)
    key = checked_text(raw["key"], prefix + "key")
    check_metric_key(key, path)
    value = as_double(raw["value"], prefix + "value")
    timestamp = as_int(raw["timestamp"], prefix + "timestamp")
    if timestamp < 0:
        raise wrong(
            prefix + "timestamp",
            timestamp,
            f"metric '{key}' (value={value}). Timestamp must be a nonnegative long (64-bit integer) ",
        )
    step = fields.get("step")
    return key, 0 if step is None else as_int(step, prefix + "step"), timestamp, value


_SWAP = struct.pack("=h", 1) == struct.pack("<h", 1)
_INT4, _INT8, _FLOAT8 = 23, 20, 701
_HEADER = struct.Struct(">iiiii")


def int4_array(values: list[int]) -> Int4Array:
    words = _words(array("i", values))
    framed = array("i", bytes(8 * len(values)))
    framed[0::2] = array("i", _LENGTH_4 * len(values))
    framed[1::2] = words
    return Int4Array(_HEADER.pack(1, 0, _INT4, len(values), 1) + framed.tobytes())


def int8_array(values: list[int]) -> Int8Array:
    """Raises InvalidParameter where a value does not fit 64 bits."""
    try:
        return Int8Array(_HEADER.pack(1, 0, _INT8, len(values), 1) + _framed_8(array("q", values)))
    except OverflowError as error:
        raise InvalidParameter("A number does not fit 64 bits.") from error


def float8_array(values: list[float]) -> Float8Array:
    return Float8Array(_HEADER.pack(1, 0, _FLOAT8, len(values), 1) + _framed_8(array("d", values)))


_LENGTH_4 = struct.pack(">i", 4)
_LENGTH_8 = struct.pack(">i", 8)


def _words(values: array[Any]) -> array[int]:
    """The values in network order, as 4-byte words."""
    if _SWAP:
        values.byteswap()
    return array("i", values.tobytes())


def _framed_8(values: array[Any]) -> bytes:
    """Each 8-byte value behind its length, by strided copies: no loop over elements in Python."""
    words = _words(values)
    framed = array("i", bytes(12 * len(values)))
    framed[0::3] = array("i", _LENGTH_8 * len(values))
    framed[1::3] = words[0::2]
    framed[2::3] = words[1::2]
    return framed.tobytes()
