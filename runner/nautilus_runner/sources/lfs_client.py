"""Git LFS's batch API, as far as a download needs it, with the job's own token.

What a server offers is fetched from where it says; the credentials of the job go to the server itself alone.
Source: git-lfs `docs/api/batch.md`, `docs/api/basic-transfers.md`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from nautilus_runner.client import error_of
from nautilus_runner.errors import GitError, SourceRefused, UnavailableError
from nautilus_runner.persistence import persistently
from nautilus_runner.sources import git
from nautilus_runner.sources.lfs_store import LfsStore, Partial
from nautilus_runner.transport import Answer, Transport

_MEDIA_TYPE = "application/vnd.git-lfs+json"
_BATCH = 100
_TRIES = 5
_RANGE_UNFIT = 416


@dataclass(frozen=True, slots=True)
class Pointer:
    """An object that a checkout names, and how many bytes it has."""

    oid: str
    size: int


@dataclass(frozen=True, slots=True)
class Offer:
    pointer: Pointer
    href: str
    headers: dict[str, str]


class LfsClient:
    """One repository's objects. `remote` is how we reach it, `public` what its server calls it."""

    def __init__(self, remote: git.Remote, public: git.Remote) -> None:
        self._remote = remote
        self._public = public
        self._transport = Transport(remote.origin, remote.ca_file)

    async def close(self) -> None:
        await self._transport.close()

    async def offers(self, pointers: Sequence[Pointer]) -> list[Offer]:
        """What the server lets this job have. Raises SourceRefused where it refuses one, GitError."""
        found: list[Offer] = []
        for start in range(0, len(pointers), _BATCH):
            found += await self._batch(pointers[start : start + _BATCH])
        return found

    async def _batch(self, pointers: Sequence[Pointer]) -> list[Offer]:
        body = {
            "operation": "download",
            "transfers": ["basic"],
            "objects": [{"oid": p.oid, "size": p.size} for p in pointers],
            "hash_algo": "sha256",
        }
        path = urlsplit(self._remote.url).path
        headers = {"Accept": _MEDIA_TYPE, "Content-Type": _MEDIA_TYPE, **self._authorization()}
        answer = await self._ask(f"{path}/info/lfs/objects/batch", body, headers)
        if answer.status != 200:
            said = f": {answer.message}" if answer.message else ""
            raise SourceRefused(
                f"Git LFS: the server answers {answer.status}{said}; GIT_LFS_SKIP_SMUDGE=1 leaves the pointers"
            )
        try:
            entries = {str(e["oid"]): e for e in answer.json()["objects"]}
        except (UnavailableError, KeyError, TypeError) as error:
            raise GitError("Git LFS: the server's answer can't be read") from error
        return [self._offer(p, entries.get(p.oid)) for p in pointers]

    async def _ask(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> Answer:
        async def once() -> Answer:
            answer = await self._transport.request_json("POST", path, body, headers=headers)
            if answer.is_transient:
                raise error_of(answer, "objects/batch")
            return answer

        try:
            return await persistently(once, _TRIES)
        except UnavailableError as error:
            raise GitError(f"Git LFS: {error}") from error

    def _offer(self, pointer: Pointer, entry: Any) -> Offer:
        problem = entry.get("error") if isinstance(entry, dict) else {"message": "not in the server's answer"}
        action = entry.get("actions", {}).get("download") if isinstance(entry, dict) else None
        if problem or not isinstance(action, dict) or not str(action.get("href", "")):
            said = problem.get("message", "") if isinstance(problem, dict) else "no way to download it"
            raise SourceRefused(f"LFS object {pointer.oid}: {said or 'refused'}")
        headers = {str(k): str(v) for k, v in (action.get("header") or {}).items()}
        return Offer(pointer, *self._reached(str(action["href"]), headers))

    def _reached(self, href: str, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
        """The server's own addresses as we reach them, with the job's credentials; others as they are."""
        parts = urlsplit(href)
        if parts.scheme not in ("http", "https"):
            raise SourceRefused(
                f"Git LFS: the server names an address that is not fetched: {parts.scheme}://…"
            )
        base = urlsplit(self._remote.origin)
        if parts.netloc.rpartition("@")[2] in (base.netloc, urlsplit(self._public.origin).netloc):
            href = parts._replace(scheme=base.scheme, netloc=base.netloc).geturl()
            if not any(name.lower() == "authorization" for name in headers):
                headers = {**headers, **self._authorization()}
        return href, headers

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": self._remote.authorization} if self._remote.authorization else {}

    async def download(self, offer: Offer, store: LfsStore) -> None:
        """Bring one object into the store, going on where an earlier attempt broke off. Raises GitError."""
        oid, size = offer.pointer.oid, offer.pointer.size
        part = store.partial(oid)

        async def once() -> None:
            if part.size < size or not size:
                await self._receive(offer, part)
            if part.size < size:
                raise UnavailableError(f"it ended after {part.size} of {size} bytes")

        try:
            await persistently(once, _TRIES)
        except UnavailableError as error:
            raise GitError(f"LFS object {oid}: {error}") from error
        await store.take(oid, size, part)

    async def _receive(self, offer: Offer, part: Partial) -> None:
        begun = part.size
        headers = {**offer.headers, **({"Range": f"bytes={begun}-"} if begun else {})}
        url = offer.href
        for _hop in range(3):
            async with self._transport.stream("GET", url, headers=headers, read_timeout_s=60.0) as (
                answer,
                body,
            ):
                target = answer.headers.get("location", "")
                if answer.status in (301, 302, 303, 307, 308) and target.startswith(("http://", "https://")):
                    url = target
                    headers = {k: v for k, v in headers.items() if k.lower() == "range"}
                    continue
                if answer.status == _RANGE_UNFIT or (begun and answer.status == 200):
                    part.discard()
                if answer.status not in (200, 206):
                    raise UnavailableError(f"the server answered {answer.status}", answer.status)
                await _write(part, body, offer.pointer.size)
                return
        raise UnavailableError("the server sends on and on to other addresses")


async def _write(part: Partial, body: AsyncIterator[bytes], size: int) -> None:
    """Append what comes, in pieces of a megabyte, and never more than the object has."""
    waiting = bytearray()
    async for data in body:
        waiting += data
        if len(waiting) >= 1 << 20:
            await asyncio.to_thread(part.append, bytes(waiting))
            waiting.clear()
            if part.size > size:
                part.discard()
                raise GitError("an LFS object is longer than its pointer says")
    await asyncio.to_thread(part.append, bytes(waiting))


def distinct(pointers: Iterable[Pointer]) -> list[Pointer]:
    return list(dict.fromkeys(pointers))
