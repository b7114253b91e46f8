"""HTTP to one coordinator: one pool of connections, errors of ours, streams both ways.

httpcore is the transport below httpx; used directly since httpx alone costs a service 0.2 s of start-up
and 12 MiB (it imports a command-line program of its own).
"""

from __future__ import annotations

import importlib.util
import json
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast
from urllib.parse import urlsplit

import httpcore

from nautilus_runner import __version__
from nautilus_runner.errors import ConfigurationError, UnavailableError

KEEPALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
]
_NETWORK_ERRORS = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.ConnectionNotAvailable,
    OSError,
    EOFError,
)
USER_AGENT = f"nautilus-runner {__version__}"


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise UnavailableError("the server's answer is not JSON", self.status) from error

    @property
    def message(self) -> str:
        """What the server says went wrong, short and in one line; "" where it says nothing."""
        try:
            said = json.loads(self.body)
        except ValueError:
            return ""
        if isinstance(said, dict):
            said = said.get("message", said.get("error", ""))
        text = said if isinstance(said, str) else json.dumps(said)
        return " ".join(text.split())[:300]

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status == 429 or self.status >= 500

    @property
    def retry_after_s(self) -> float | None:
        try:
            return max(0.0, min(float(self.headers["retry-after"]), 60.0))
        except (KeyError, ValueError):
            return None


def _say_that_sniffio_is_missing() -> None:
    """httpcore tries to import it for every lock that it takes; where it is not installed each try walks all of
    sys.path: a third of a request's CPU time. Source: httpcore 1.0 `_synchronization.py`, current_async_library."""
    if "sniffio" not in sys.modules and importlib.util.find_spec("sniffio") is None:
        sys.modules["sniffio"] = cast(
            ModuleType, None
        )  # importing it fails at once (sys.modules, data model)


class Transport:
    """Requests below one base URL. Raises UnavailableError where no whole answer came."""

    def __init__(self, base_url: str, ca_file: str = "") -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(f"not an address: {base_url!r}; write it as http://HOST:PORT")
        self._base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        _say_that_sniffio_is_missing()
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls_context(ca_file) if parts.scheme == "https" else None,
            max_connections=None,
            max_keepalive_connections=8,
            keepalive_expiry=30,
            socket_options=KEEPALIVE,
        )

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | AsyncIterator[bytes] = b"",
        read_timeout_s: float = 30.0,
    ) -> Answer:
        async with self.stream(
            method, path, headers=headers, content=content, read_timeout_s=read_timeout_s
        ) as (answer, body):
            return Answer(answer.status, answer.headers, b"".join([part async for part in body]))

    async def request_json(
        self,
        method: str,
        path: str,
        document: Any,
        *,
        headers: Mapping[str, str] | None = None,
        **timeouts: float,
    ) -> Answer:
        return await self.request(
            method,
            path,
            headers={"Content-Type": "application/json", **(headers or {})},
            content=json.dumps(document).encode(),
            **timeouts,
        )

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | AsyncIterator[bytes] = b"",
        read_timeout_s: float = 30.0,
    ) -> AsyncIterator[tuple[Answer, AsyncIterator[bytes]]]:
        """The head of the answer, and its body part by part."""
        url = path if path.startswith(("http://", "https://")) else f"{self._base}{path}"
        async with exchange(self._pool, method, url, headers or {}, content, read_timeout_s) as found:
            yield found

    async def close(self) -> None:
        await self._pool.aclose()


@asynccontextmanager
async def exchange(
    pool: httpcore.AsyncConnectionPool,
    method: str,
    url: str,
    headers: Mapping[str, str],
    content: bytes | AsyncIterator[bytes],
    read_timeout_s: float,
) -> AsyncIterator[tuple[Answer, AsyncIterator[bytes]]]:
    """One request and the head of its answer, with its body part by part. Raises UnavailableError for no answer."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    sent = {"Host": host, "User-Agent": USER_AGENT, "Accept": "*/*", **headers}
    if isinstance(content, bytes) and (content or method != "GET"):
        sent["Content-Length"] = str(len(content))
    timeout = {"connect": 10.0, "pool": 60.0, "write": 60.0, "read": read_timeout_s}
    try:
        async with pool.stream(
            method, url, headers=list(sent.items()), content=content, extensions={"timeout": timeout}
        ) as response:
            head = {name.decode().lower(): value.decode("latin-1") for name, value in response.headers}
            yield Answer(response.status, head), _parts(response)
    except _NETWORK_ERRORS as error:
        raise UnavailableError(f"no answer from {parts.scheme}://{host}: {describe(error)}") from error


def describe(error: BaseException) -> str:
    """An exception in a few words, never empty."""
    text = str(error) or type(error).__name__
    return " ".join(text.split())[:200]


async def _parts(response: httpcore.Response) -> AsyncIterator[bytes]:
    async for part in response.aiter_stream():
        yield part


def tls_context(ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"tls_ca_file {ca_file}: {error}") from error
    return context
