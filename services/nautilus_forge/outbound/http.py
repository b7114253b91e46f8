"""One HTTP request to a checked target. httpx is imported with the first one."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from nautilus_forge.outbound.addresses import IpAddress
from nautilus_forge.outbound.errors import OutboundFailed
from nautilus_forge.outbound.target import Target

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True)
class Answer:
    """`body`: cut at the request's limit, then `is_cut`. `headers` by their names in lower case. `duration_s`."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_cut: bool
    duration_s: float


async def send(
    method: str,
    target: Target,
    *,
    headers: Mapping[str, str] | None = None,
    content: bytes = b"",
    timeout_s: float = 10.0,
    limit_bytes: int = 1 << 20,
    verify_tls: bool = True,
) -> Answer:
    """The answer, whatever its status; redirects are answers like others. `timeout_s` is for the whole exchange.

    The connection goes to the first of the target's addresses that takes it; the certificate must be for its host
    and signed by whom this machine trusts. Credentials of the URL go as Basic. No proxy of the environment is used.
    Raises `OutboundFailed`.
    """
    import httpx

    started_at = time.monotonic()
    context = await asyncio.to_thread(_tls_context, verify_tls)
    try:
        async with (
            asyncio.timeout(timeout_s),
            httpx.AsyncClient(verify=context, trust_env=False, timeout=timeout_s) as client,
        ):
            response = await _connected(client, method, target, headers or {}, content)
            try:
                body, is_cut = await _limited(response, limit_bytes)
            finally:
                await response.aclose()
    except TimeoutError as error:
        raise OutboundFailed(f"no answer within {timeout_s:g} seconds") from error
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise OutboundFailed(_reason(error)) from error
    return Answer(
        response.status_code,
        {name.lower(): value for name, value in response.headers.items()},
        body,
        is_cut,
        time.monotonic() - started_at,
    )


@cache
def _tls_context(is_verified: bool) -> ssl.SSLContext:
    """With the machine's own certificates (`SSL_CERT_FILE` counts), read once."""
    context = ssl.create_default_context()
    if not is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def _connected(
    client: httpx.AsyncClient, method: str, target: Target, headers: Mapping[str, str], content: bytes
) -> httpx.Response:
    import httpx

    *others, last = target.addresses
    for address in others:
        try:
            return await client.send(
                _request(client, method, target, address, headers, content), stream=True, auth=_auth(target)
            )
        except (httpx.ConnectError, httpx.ConnectTimeout):
            continue
    return await client.send(
        _request(client, method, target, last, headers, content), stream=True, auth=_auth(target)
    )


def _request(
    client: httpx.AsyncClient,
    method: str,
    target: Target,
    address: IpAddress,
    headers: Mapping[str, str],
    content: bytes,
) -> httpx.Request:
    at = f"[{address}]" if address.version == 6 else str(address)
    return client.build_request(
        method,
        f"{target.scheme}://{at}:{target.port}{target.rest}",
        headers={**headers, "Host": target.netloc},
        content=content,
        extensions={"sni_hostname": target.host},
    )


def _auth(target: Target) -> tuple[str, str] | None:
    return (target.username, target.password.get_secret_value()) if target.has_credentials else None


async def _limited(response: httpx.Response, limit_bytes: int) -> tuple[bytes, bool]:
    taken = bytearray()
    async for chunk in response.aiter_raw():
        taken += chunk
        if len(taken) > limit_bytes:
            return bytes(taken[:limit_bytes]), True
    return bytes(taken), False


def _reason(error: Exception) -> str:
    """The kind of failure and its words (httpx's name the address at most, never the credentials)."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
