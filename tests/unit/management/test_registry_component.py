"""What health says of the container registry."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nautilus.health.probes import ComponentState, registry_component


@pytest.mark.parametrize(
    ("first_line", "state"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\n", ComponentState.READY),
        (b"HTTP/1.1 200 OK\r\n", ComponentState.READY),
        (b"HTTP/1.1 500 Internal Server Error\r\n", ComponentState.FAILED),
        (b"", ComponentState.FAILED),
    ],
)
async def test_a_registry_that_answers(tmp_path: Path, first_line: bytes, state: ComponentState) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(first_line)
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(answer, tmp_path / "r.sock")
    async with server:
        assert (await registry_component(tmp_path / "r.sock")).state is state


async def test_a_registry_that_is_not_there_yet(tmp_path: Path) -> None:
    found = await registry_component(tmp_path / "r.sock")
    assert (found.name, found.state) == ("registry", ComponentState.STARTING)
