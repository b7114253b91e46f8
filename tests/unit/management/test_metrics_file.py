"""metrics.jsonl: what can be read is taken, the rest left out."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from nautilus.experiments.metrics_file import read_metrics

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_a_line_is_a_point() -> None:
    [point] = read_metrics(b'{"key": "loss", "value": 0.5, "step": 3, "timestamp": 1700000000.25}', NOW)
    assert (point.key, point.value, point.step, point.timestamp_ms) == ("loss", 0.5, 3, 1_700_000_000_250)


def test_a_missing_step_counts_up_per_key_and_a_missing_time_is_the_files() -> None:
    lines = b"\n".join(
        [
            b'{"key":"a","value":1}',
            b'{"key":"b","value":2}',
            b'{"key":"a","value":3}',
            b'{"key":"a","value":4,"step":9}',
            b'{"key":"a","value":5}',
        ]
    )
    points = read_metrics(lines, NOW)
    assert [(p.key, p.step) for p in points] == [("a", 0), ("b", 0), ("a", 1), ("a", 9), ("a", 10)]
    assert {p.timestamp_ms for p in points} == {int(NOW.timestamp() * 1000)}


def test_milliseconds_are_recognised() -> None:
    [point] = read_metrics(b'{"key":"a","value":1,"timestamp":1700000000250}', NOW)
    assert point.timestamp_ms == 1_700_000_000_250


def test_what_json_of_python_writes_for_nan_is_taken() -> None:
    points = read_metrics(b'{"key":"a","value":NaN}\n{"key":"a","value":-Infinity}', NOW)
    assert math.isnan(points[0].value) and points[1].value == -math.inf


def test_other_lines_are_left_out() -> None:
    lines = (
        b"""
not json
[]
{"key": 1, "value": 1}
{"key": "", "value": 1}
{"key": "a", "value": "1"}
{"key": "a", "value": true}
{"key": "a\\u0000", "value": 1}
{"key": "a", "value": 1, "step": 1.5}
{"key": "a", "value": 1, "step": 99999999999999999999}
\xff\xfe
"""
        + b"[" * 100_000
        + b'\n{"key": "good", "value": 1}\n{"key": "cut", "val'
    )
    assert [point.key for point in read_metrics(lines, NOW)] == ["good"]


@given(st.binary(max_size=300))
def test_any_bytes_are_survived(content: bytes) -> None:
    read_metrics(content, NOW)
