"""Reading a run's points from wherever a watcher stopped: the database first, then memory.

A cursor is `s.<epoch>.<position>.<key>.<step>.<timestamp>.<value>` while the curves are read (each in the order of
its steps, one after the other; `position` is where memory goes on afterwards), then `l.<epoch>.<position>`. What is
no cursor of this process begins anew.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from nautilus.experiments.ports import MetricBatch, MetricPoint
from nautilus.tracking.access import RunFacts
from nautilus.tracking.live import Live
from nautilus.tracking.pool import Connection

_PAGE = """
SELECT m.key, k.name, m.step, m.timestamp_ms, m.value
FROM tracking_metric m JOIN tracking_metric_key k ON k.id = m.key
WHERE m.run = %s AND (m.key, m.step, m.timestamp_ms, m.value) > (%s, %s, %s, %s)
ORDER BY m.key, m.step, m.timestamp_ms, m.value LIMIT %s
"""
_START = (-1, 0, 0, 0.0)


@dataclass(frozen=True)
class _Reading:
    """How far the curves have been read: the last point's (key number, step, timestamp in ms, value)."""

    position: int
    last: tuple[int, int, int, float]


async def read(connection: Connection, live: Live, run: RunFacts, cursor: str, limit: int) -> MetricBatch:
    position = _live_position(cursor, live.epoch)
    if position is not None:
        kept = live.after(run.run_id, position, limit)
        if kept is not None:
            return MetricBatch(
                [MetricPoint(k, v, t, s) for k, s, t, v in kept[0]], f"l.{live.epoch}.{kept[1]}"
            )
    reading = _reading(cursor, live.epoch)
    if reading is None:
        # Watched before it is read: what arrives meanwhile may come twice, but not never.
        reading = _Reading(live.watch(run.run_id), _START)
    else:
        live.watch(run.run_id)
    rows = await (await connection.execute(_PAGE, (run.number, *reading.last, limit))).fetchall()
    if not rows:
        # Also where a caller keeps the cursor that it had because nothing came.
        kept = live.after(run.run_id, reading.position, limit)
        found, position = kept if kept is not None else ([], reading.position)
        return MetricBatch([MetricPoint(k, v, t, s) for k, s, t, v in found], f"l.{live.epoch}.{position}")
    points = [MetricPoint(name, value, timestamp_ms, step) for _, name, step, timestamp_ms, value in rows]
    if len(rows) < limit:
        return MetricBatch(points, f"l.{live.epoch}.{reading.position}")
    key, _, step, timestamp_ms, value = rows[-1]
    return MetricBatch(points, f"s.{live.epoch}.{reading.position}.{key}.{step}.{timestamp_ms}.{_hex(value)}")


def _live_position(cursor: str, epoch: str) -> int | None:
    kind, *parts = cursor.split(".")
    if kind != "l" or len(parts) != 2 or parts[0] != epoch or not parts[1].isdecimal() or len(parts[1]) > 18:
        return None
    return int(parts[1])


def _reading(cursor: str, epoch: str) -> _Reading | None:
    kind, *parts = cursor.split(".")
    if kind != "s" or len(parts) != 6 or parts[0] != epoch:
        return None
    try:
        position, key, step, timestamp_ms = (int(part) for part in parts[1:5])
        value = _value(parts[5])
    except ValueError:
        return None
    if not (0 <= key < 2**31 and -(2**63) <= step < 2**63 and 0 <= timestamp_ms < 2**63):
        return None
    return _Reading(position, (key, step, timestamp_ms, value))


def _hex(value: float) -> str:
    return struct.pack(">d", value).hex()


def _value(text: str) -> float:
    packed = bytes.fromhex(text)
    if len(packed) != 8:
        raise ValueError(text)
    return float(struct.unpack(">d", packed)[0])
