"""MLflow's JSON, its limits, and the columns that points become."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nautilus.tracking import points, validation, wire
from nautilus.tracking.artifacts import Location, location, safe_names
from nautilus.tracking.errors import InvalidParameter

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"", {}),
        (b"null", {}),
        (b'{"a": 1}', {"a": 1}),
        (json.dumps('{"a": 1}').encode(), {"a": 1}),  # JSON in JSON, of old clients
        (b'{"value": Infinity}', {"value": math.inf}),
    ],
)
def test_bodies_are_read_as_mlflow_reads_them(body: bytes, fields: dict[str, Any]) -> None:
    assert wire.parse_body(body) == fields


@pytest.mark.parametrize("body", [b"[]", b"1", b'"x"', b"{", b"\xff", b"[" * 100_000, b'{"a":'])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidParameter):
        wire.parse_body(body)


def test_names_may_be_spelled_either_way_but_not_both() -> None:
    assert wire.field({"runId": "a"}, "run_id") == "a"
    assert wire.field({"run_id": "a"}, "run_id") == "a"
    with pytest.raises(InvalidParameter, match="provide only one"):
        wire.field({"runId": "a", "run_id": "b"}, "run_id")


@pytest.mark.parametrize(
    ("value", "number"), [(5, 5), ("5", 5), (5.0, 5), ("-7", -7), (2**63 - 1, 2**63 - 1)]
)
def test_integers(value: object, number: int) -> None:
    assert wire.as_int(value, "step") == number


@pytest.mark.parametrize(
    "value", [True, 5.5, "5.5", "x", 2**63, -(2**63) - 1, [], {}, math.nan, math.inf, "9" * 5000]
)
def test_what_is_no_int64_is_refused(value: object) -> None:
    with pytest.raises(InvalidParameter, match="step"):
        wire.as_int(value, "step")


@pytest.mark.parametrize(
    ("value", "number"),
    [(1, 1.0), ("1.5", 1.5), ("1e3", 1000.0), ("Infinity", math.inf), ("-Infinity", -math.inf)],
)
def test_doubles(value: object, number: float) -> None:
    assert wire.as_double(value, "value") == number


def test_nan_is_a_double() -> None:
    assert math.isnan(wire.as_double("NaN", "value"))


@pytest.mark.parametrize("value", [True, "x", "", [], {}, "nan", "inf", 10**400])
def test_what_is_no_double_is_refused(value: object) -> None:
    with pytest.raises(InvalidParameter, match="value"):
        wire.as_double(value, "value")


@given(_JSON)
def test_any_metric_is_read_or_refused(value: Any) -> None:
    for metric in (value, {"key": value, "value": 1, "timestamp": 1}, {"key": "a", "value": value, "timestamp": value},
                   {"key": "a", "value": 1, "timestamp": 1, "step": value}):  # fmt: skip
        try:
            found = points.read_metrics([metric], {"a": 1})
        except InvalidParameter:
            continue
        assert len(found) == 1
        points.int8_array(found.steps)
        points.int8_array(found.timestamps_ms)
        points.float8_array(found.values)


def test_the_element_at_fault_is_named() -> None:
    good = {"key": "a", "value": 1.0, "timestamp": 1}
    with pytest.raises(InvalidParameter, match=r"metrics\[1\].value"):
        points.read_metrics([good, {"key": "a", "timestamp": 1}], {})
    with pytest.raises(InvalidParameter, match=r"metrics\[2\].timestamp"):
        points.read_metrics([good, good, {"key": "a", "value": 1, "timestamp": -1}], {})


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20))
def test_int8_arrays_are_postgresqls(values: list[int]) -> None:
    header, elements = _unpack(points.int8_array(values))
    assert header == (1, 0, 20, len(values), 1)
    assert [struct.unpack(">q", element)[0] for element in elements] == values


@given(st.lists(st.floats(), max_size=20))
def test_float8_arrays_are_postgresqls(values: list[float]) -> None:
    header, elements = _unpack(points.float8_array(values))
    assert header == (1, 0, 701, len(values), 1)
    assert [struct.pack(">d", value) for value in values] == elements


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=20))
def test_int4_arrays_are_postgresqls(values: list[int]) -> None:
    header, elements = _unpack(points.int4_array(values))
    assert header == (1, 0, 23, len(values), 1)
    assert [struct.unpack(">i", element)[0] for element in elements] == values


def _unpack(data: bytes) -> tuple[tuple[int, ...], list[bytes]]:
    header, elements, position = struct.unpack(">iiiii", data[:20]), [], 20
    while position < len(data):
        (length,) = struct.unpack_from(">i", data, position)
        elements.append(data[position + 4 : position + 4 + length])
        position += 4 + length
    return header, elements


@pytest.mark.parametrize("name", ["a", "a/b", "a b:c-d.e_f", "é", "日本", "x" * 250])
def test_names_of_metrics(name: str) -> None:
    assert validation.check_metric_key(name) == name


@pytest.mark.parametrize(
    "name", ["", "..", "../a", "/a", "a//b", "a/", "./a", ".", "a/../b", "a*b", "a\n", "a'b", "x" * 251]
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(InvalidParameter):
        validation.check_metric_key(name)


def test_long_values_are_cut_as_mlflow_cuts_them() -> None:
    assert len(validation.check_param("a", "x" * 7000)[1]) == 6000
    assert len(validation.check_tag("a", "x" * 9000)[1]) == 8000
    with pytest.raises(InvalidParameter):
        validation.check_experiment_tag("a", "x" * 20_001)


@pytest.mark.parametrize(
    ("metrics", "params", "tags"), [(1001, 0, 0), (0, 101, 0), (0, 0, 101), (900, 51, 50)]
)
def test_the_limits_of_a_batch(metrics: int, params: int, tags: int) -> None:
    with pytest.raises(InvalidParameter, match="at most"):
        validation.check_batch(metrics, params, tags)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("", ()),
        ("a/b.txt", ("a", "b.txt")),
        ("a%20b", ("a b",)),
        ("a%2520b", ("a b",)),
        ("100%.txt", ("100%.txt",)),
        ("dir/", ("dir",)),
        ("..a/b..", ("..a", "b..")),
        ("ünï/日本", ("ünï", "日本")),
    ],
)
def test_paths_become_names(path: str, names: tuple[str, ...]) -> None:
    assert safe_names(path) == names


@pytest.mark.parametrize(
    "path",
    ["..", "a/..", "../a", "a/../b", "%2e%2e/a", "%252e%252e/a", ".%2e/a", "a%2f..%2fb", "/a",
     "%2fa", "/", "%2f", "//a", "a//", "a//b",
     "./a", "a/.", "a\\b", "a%5cb", "C:/a", "c%3a/a", "file:///etc/passwd", "FILE:a", "a#b", "a%23b", "a\x00b",
     "a%00b", "a\nb", "x" * 256, "a/" * 70 + "b", "%25" * 400 + "2e", "%u002e", "a\x7f"],
)  # fmt: skip
def test_paths_that_could_lead_elsewhere_are_refused(path: str) -> None:
    if path == "%u002e":
        assert safe_names(path) == ("%u002e",)
        return
    with pytest.raises(InvalidParameter):
        safe_names(path)


@given(st.text(max_size=60))
def test_any_path_is_a_few_plain_names_or_refused(path: str) -> None:
    try:
        names = safe_names(path)
    except InvalidParameter:
        return
    assert not {"", ".", ".."} & set(names)
    assert all("/" not in name and "\\" not in name and "\x00" not in name for name in names)


def test_locations() -> None:
    assert location("7/abc/artifacts/x/y") == Location(7, "abc", None, ("x", "y"))
    assert location("7/models/m-1/artifacts") == Location(7, None, "m-1", ())
    for path in (
        "7",
        "7/abc",
        "7/abc/other/x",
        "x/abc/artifacts/y",
        "07/abc/artifacts/y",
        "7/models/m-1/x",
        "-1/a/artifacts",
    ):
        with pytest.raises(InvalidParameter):
            location(path)
