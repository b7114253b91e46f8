# ruff: noqa: S608 — statements are put together of constants alone; every value is a parameter
"""Reading curves: MLflow's histories, samples of many runs at once, and few points for a drawing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from nautilus.tracking.pool import Connection

MAX_HISTORY_PAGE = 100_000
MAX_BULK_POINTS = 25_000
MAX_POINTS_PER_RUN = 2_500
MAX_RUNS = 100

_KEY = "(SELECT id FROM tracking_metric_key WHERE name = %s)"
_POINT = "json_build_object('key', %s::text, 'value', p.value, 'timestamp', p.timestamp_ms, 'step', p.step"

_HISTORY = f"""
SELECT coalesce(json_agg({_POINT}) ORDER BY p.timestamp_ms, p.step, p.value), '[]')::text, count(*)
FROM (SELECT * FROM tracking_metric WHERE run = %s AND key = {_KEY}
      ORDER BY timestamp_ms, step, value LIMIT %s OFFSET %s) p
"""

_BULK = f"""
SELECT coalesce(json_agg({_POINT}, 'run_id', p.run_id) ORDER BY p.run_id, p.timestamp_ms, p.step, p.value), '[]')::text
FROM (SELECT m.*, r.run_id FROM tracking_metric m JOIN tracking_run r ON r.id = m.run
      WHERE m.run = ANY(%s) AND m.key = {_KEY}
      ORDER BY r.run_id, m.timestamp_ms, m.step, m.value LIMIT %s) p
"""

_SAMPLE = f"""
WITH curve AS (
  SELECT m.*, r.run_id, ntile(%s) OVER place AS bucket, row_number() OVER place AS n,
         count(*) OVER (PARTITION BY m.run) AS total
  FROM tracking_metric m JOIN tracking_run r ON r.id = m.run
  WHERE m.run = ANY(%s) AND m.key = {_KEY} AND m.step BETWEEN %s AND %s
  WINDOW place AS (PARTITION BY m.run ORDER BY m.step, m.timestamp_ms, m.value)
), chosen AS (
  SELECT *, n = total AS is_last, row_number() OVER (PARTITION BY run, bucket ORDER BY n) = 1 AS is_first FROM curve
), p AS (
  SELECT *, row_number() OVER (PARTITION BY run ORDER BY n) AS kept,
         count(*) OVER (PARTITION BY run) AS all_kept
  FROM chosen WHERE is_first OR is_last
)
SELECT coalesce(json_agg({_POINT}, 'run_id', p.run_id) ORDER BY p.run_id, p.n), '[]')::text
FROM p WHERE all_kept <= %s OR kept <> all_kept - 1
"""

_DRAWING = f"""
WITH size AS (
  SELECT count(*) AS total FROM tracking_metric WHERE run = %s AND key = {_KEY}
), curve AS (
  SELECT ARRAY[value, step, timestamp_ms] AS point,
         (row_number() OVER (ORDER BY step, timestamp_ms, value) - 1) * %s / size.total AS part
  FROM tracking_metric, size WHERE run = %s AND key = {_KEY}
), part AS (
  SELECT min(point) AS least, max(point) AS greatest FROM curve GROUP BY part
)
SELECT DISTINCT point[2]::bigint AS step, point[3]::bigint AS timestamp_ms, point[1] AS value
FROM part, LATERAL (VALUES (least), (greatest)) AS chosen(point) ORDER BY 1, 2, 3
"""


async def history(
    connection: Connection, run: int, key: str, limit: int, offset: int
) -> tuple[orjson.Fragment, bool]:
    """MLflow's metrics of one curve by (timestamp, step, value), and whether there are more."""
    rows = await connection.execute(_HISTORY, (key, run, key, limit + 1, offset))
    row = await rows.fetchone()
    assert row is not None
    if row[1] <= limit:
        return orjson.Fragment(row[0]), False
    rows = await connection.execute(_HISTORY, (key, run, key, limit, offset))
    row = await rows.fetchone()
    assert row is not None
    return orjson.Fragment(row[0]), True


async def bulk_history(connection: Connection, runs: Sequence[int], key: str, limit: int) -> orjson.Fragment:
    """The same of several runs, each point with its run_id, by run_id first; at most `limit` points."""
    rows = await connection.execute(_BULK, (key, list(runs), key, limit))
    return _only(await rows.fetchone())


async def sampled_history(
    connection: Connection, runs: Sequence[int], key: str, steps: tuple[int, int], points: int
) -> orjson.Fragment:
    """Evenly chosen points of each run's curve within the steps (both included), the last one always."""
    rows = await connection.execute(_SAMPLE, (points, list(runs), key, *steps, key, points))
    return _only(await rows.fetchone())


async def drawing(connection: Connection, run: int, key: str, points: int) -> list[tuple[int, int, float]]:
    """At most `points` of a curve as (step, timestamp in ms, value), by step.

    The curve is cut into as many equal parts as half the points; of each part the least and the greatest value
    stay, so that no spike is lost.
    """
    rows = await connection.execute(_DRAWING, (run, key, max(1, points // 2), run, key))
    return [(int(step), int(timestamp), float(value)) for step, timestamp, value in await rows.fetchall()]


def _only(row: Sequence[Any] | None) -> orjson.Fragment:
    assert row is not None
    return orjson.Fragment(row[0])
