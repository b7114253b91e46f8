"""Malformed input of any kind gets a clear error: never a 5xx, never an answer that is not ours."""

from __future__ import annotations

import json
import random
from typing import Any

import httpx

from nautilus.testing.experiments import submit
from nautilus.testing.management import RunningManagement

ODD: list[Any] = [
    None, True, 0, -1, 1.5, 10**30, 1e308, "", " ", "a" * 300, "\ud800", "\0", "../..", "%00", "ü🎛", "'\";--",
    [], [[]], [None], {}, {"a": {}}, {"": ""}, {"\ud800": 1}, {"a": "\0"}, {"a": ["x", None]}, [{"a": "\ud800"}],
]  # fmt: skip
FIELDS = [
    "project",
    "ref",
    "command",
    "name",
    "params",
    "sweep",
    "image",
    "resources",
    "seed",
    "tags",
    "env",
    "artifacts",
]


async def test_odd_values_in_every_field_of_a_submission(
    ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    good: dict[str, Any] = {"project": project["id"], "command": "run {a}"}
    for field in FIELDS:
        for value in ODD:
            body = json.dumps(good | {field: value}).encode()
            answer = await ada.post(
                "/api/v1/experiments", content=body, headers={"Content-Type": "application/json"}
            )
            assert answer.status_code in (201, 404, 413, 422), (field, value, answer.status_code, answer.text)
            if answer.status_code != 201:
                assert answer.json().keys() == {"message", "code"}, (field, value)


async def test_odd_values_in_every_field_of_a_project(ada: httpx.AsyncClient) -> None:
    for field in ("name", "template", "visibility", "description"):
        for value in ODD:
            body = json.dumps({"name": "odd", field: value}).encode()
            answer = await ada.post(
                "/api/v1/projects", content=body, headers={"Content-Type": "application/json"}
            )
            assert answer.status_code in (201, 409, 422), (field, value, answer.status_code, answer.text)


async def test_bodies_that_are_no_json(ada: httpx.AsyncClient) -> None:
    for body in (b"", b"{", b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe", b"nul", b'"text"', b"NaN", b"\0"):
        for path in ("/api/v1/experiments", "/api/v1/projects"):
            answer = await ada.post(path, content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code in (400, 422), (path, body[:20], answer.status_code, answer.text)
            assert answer.json().keys() == {"message", "code"}


async def test_odd_addresses(ada: httpx.AsyncClient, project: dict[str, Any]) -> None:
    await submit(ada, project)
    numbers = ["0", "-1", "1.5", "9" * 30, "a", "%00", "1%00", "..", "%2e%2e", "%ff", "1'--"]
    tails = [
        "",
        "/log",
        "/events",
        "/metrics",
        "/metrics/%00",
        "/metrics/%ff",
        "/metrics/a%2Fb",
        "/artifacts",
        "/nothing",
    ]
    for number in numbers:
        for tail in tails:
            answer = await ada.get(f"/api/v1/experiments/{number}{tail}")
            assert 400 <= answer.status_code < 500, (number, tail, answer.status_code)
    queries = [
        "page=0", "page=-1", "page=x", "per_page=0", "per_page=101", "page=99999999999", "state=none", "sweep=x",
        "sweep=0", "sweep=99999999999999999999", "order_by=%00", "order_by=metrics.%00", "order_by=params.%ff",
        "sort=up", "project=%00", "project=%ff", "project=a%2F..%2Fb", "page=1000000",
    ]  # fmt: skip
    for query in queries:
        answer = await ada.get(f"/api/v1/experiments?{query}")
        assert answer.status_code in (200, 400, 404, 422), (query, answer.status_code, answer.text)
    assert (await ada.get("/api/v1/experiments/1/log?offset=-1")).status_code == 422
    assert (await ada.get("/api/v1/experiments/1/log?offset=99999999999")).text == ""


async def test_random_bytes_as_a_request(management: RunningManagement) -> None:
    import asyncio

    dice = random.Random(7)
    host, port = management.url.removeprefix("http://").split(":")
    for _ in range(30):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(dice.randbytes(dice.randrange(1, 400)) + b"\r\n\r\n")
        writer.write_eof()
        await asyncio.wait_for(reader.read(), 30)
        writer.close()
    async with management.client() as client:
        assert (await client.get("/-/readiness")).status_code == 200
