"""`control.sock` in the data folder: how commands on this machine speak with the running service.

A client sends one JSON object and a newline, `{"verb": "drain", …}`. The answer is any number of lines
`{"data": {…}}` and one last line, `{"done": true}` or `{"error": "…"}`. The socket is 0600: who may open it may do
what the runner may. It is bound and reached through its folder's descriptor, so the folder's path may have any length.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nautilus_runner.errors import ControlRefused, NotRunning, RunnerError
from nautilus_runner.settings import load_settings

log = logging.getLogger(__name__)

NAME = "control.sock"
_MAX_REQUEST = 1 << 20
_REQUEST_S = 10.0

Answer = Mapping[str, Any]
Verb = Callable[[Mapping[str, Any]], Awaitable[Answer] | AsyncIterator[Answer]]
"""An async function of the request's fields that gives one answer, or an async generator that gives many.

A RunnerError that it raises is told to the client. When the client goes away, the verb is cancelled.
"""


class ControlSocket:
    """The service's side. `verbs` may be added to at any time."""

    def __init__(self, folder: Path, verbs: Mapping[str, Verb]) -> None:
        self._folder = folder
        self._verbs = verbs
        self._server: asyncio.Server | None = None
        self._open = contextlib.ExitStack()  # what the address names, for as long as the socket is
        self._asked: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen, in place of what an earlier service left. Raises OSError."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            (self._folder / NAME).unlink(missing_ok=True)
            listener.bind(self._open.enter_context(_short(self._folder)))
            (self._folder / NAME).chmod(0o600)
        except OSError:
            listener.close()
            self._open.close()
            raise
        self._server = await asyncio.start_unix_server(self._answer, sock=listener, limit=_MAX_REQUEST)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            (self._folder / NAME).unlink(missing_ok=True)
            self._open.close()
        for task in self._asked:
            task.cancel()
        await asyncio.gather(*self._asked, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._asked.add(task)
        try:
            last = await self._do(reader, writer)
            await _send(writer, last)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._asked.discard(task)
            writer.close()

    async def _do(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Answer:
        """Do what is asked; the last line."""
        try:
            async with asyncio.timeout(_REQUEST_S):
                fields = _parsed(await reader.readuntil(b"\n"))
            verb = self._verbs.get(name := str(fields.get("verb")))
            if verb is None:
                raise ControlRefused(f"this runner does not know {name!r}: is it older than the command?")
            await _until_gone(_tell(verb(fields), writer), reader)
        except RunnerError as error:
            return {"error": str(error)}
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, ValueError):
            return {"error": "the request is no JSON object in one line"}
        except ConnectionError:
            raise
        except Exception as error:
            log.exception("control socket: an error of ours")
            return {"error": f"{type(error).__name__}: {error}"}
        return {"done": True}


def ask(config: Path, verb: str, timeout_s: float | None = 30.0, **fields: Any) -> Iterator[dict[str, Any]]:
    """What the service of this configuration answers, one by one; `timeout_s` bounds the wait for each.

    Raises NotRunning where there is no service, ControlRefused with its words where it refuses.
    """
    folder = load_settings(config).data_dir
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(timeout_s)
        try:
            with _short(folder) as path:
                peer.connect(path)
            peer.sendall(_line({"verb": verb, **fields}))
            with peer.makefile("rb") as lines:
                for line in lines:
                    said = json.loads(line)
                    if "error" in said:
                        raise ControlRefused(said["error"])
                    if "done" in said:
                        return
                    yield said["data"]
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NotRunning(
                f"no runner is running with {config} (nothing listens at {folder / NAME})"
            ) from error
        except TimeoutError as error:
            raise NotRunning(f"the runner at {folder / NAME} does not answer within {timeout_s} s") from error
        except OSError as error:
            raise NotRunning(f"{folder / NAME} can't be used: {error.strerror or error}") from error
    raise NotRunning("the runner ended before it had answered")


def ask_once(config: Path, verb: str, **fields: Any) -> dict[str, Any]:
    """The one answer of a verb that gives one (or the last of several). Raises as `ask`."""
    answer: dict[str, Any] = {}
    for answer in ask(config, verb, **fields):  # noqa: B007
        pass
    return answer


async def _tell(answers: Awaitable[Answer] | AsyncIterator[Answer], writer: asyncio.StreamWriter) -> None:
    if inspect.isawaitable(answers):
        await _send(writer, {"data": await answers})
        return
    async for answer in answers:
        await _send(writer, {"data": answer})


async def _until_gone(telling: Any, reader: asyncio.StreamReader) -> None:
    """Do `telling` unless the client goes away first. Raises ConnectionResetError then."""
    work = asyncio.ensure_future(telling)
    gone = asyncio.ensure_future(reader.read())
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ConnectionResetError
        await work
    finally:
        for task in (work, gone):
            task.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)


async def _send(writer: asyncio.StreamWriter, answer: Answer) -> None:
    writer.write(_line(answer))
    await writer.drain()


def _parsed(line: bytes) -> Mapping[str, Any]:
    """Raises ValueError."""
    fields = json.loads(line)
    if not isinstance(fields, dict):
        raise ValueError("not an object")
    return fields


def _line(fields: Answer) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


@contextlib.contextmanager
def _short(folder: Path) -> Iterator[str]:
    """The socket's path in less than the 108 bytes that such an address may have."""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{NAME}"
    finally:
        os.close(fd)
