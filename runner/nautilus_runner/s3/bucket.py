"""One bucket of an S3 endpoint: objects read by range, written whole (in parts where they are large).

Source: Amazon S3 API reference (GetObject, HeadObject, PutObject, CreateMultipartUpload and its kin).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

from nautilus_runner.errors import ServerError, UnavailableError
from nautilus_runner.files.transfer import parts_of
from nautilus_runner.s3.signing import EMPTY, UNSIGNED, Credentials, encoded_path, encoded_query, sign
from nautilus_runner.transport import Answer, Transport

PART = 64 << 20
_WHOLE = 128 << 20  # up to this size an object goes in one request
_CHUNK = 1 << 20
_READ_S = 120.0
_PART_S = 600.0
_TAG = "<{0}>([^<]*)</{0}>"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a bucket is. `credentials` None: requests go unsigned, as to a public bucket."""

    endpoint: str  # http(s)://host[:port]
    bucket: str
    region: str = "us-east-1"
    is_path_style: bool = True
    credentials: Credentials | None = field(default=None, repr=False)

    def target(self, key: str) -> tuple[str, str, str]:
        """Origin, host and path (not encoded) of an object."""
        parts = urlsplit(self.endpoint)
        prefix = parts.path.rstrip("/")
        host = parts.netloc.rpartition("@")[2]
        if self.is_path_style:
            return f"{parts.scheme}://{host}", host, f"{prefix}/{self.bucket}/{key}"
        host = f"{self.bucket}.{host}"
        return f"{parts.scheme}://{host}", host, f"{prefix}/{key}"

    def request(
        self,
        method: str,
        key: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        payload: str = EMPTY,
    ) -> tuple[str, dict[str, str]]:
        """The URL of a request, and its headers with the signature."""
        origin, host, path = self.target(key)
        wanted = dict(headers or {})
        if self.credentials is not None:
            now = datetime.now(UTC)
            wanted = sign(
                method,
                host,
                path,
                query or {},
                wanted,
                payload=payload,
                credentials=self.credentials,
                region=self.region,
                now=now,
            )
            wanted.pop("host")
        tail = f"?{encoded_query(query)}" if query else ""
        return f"{origin}{encoded_path(path)}{tail}", wanted


class Bucket:
    """Objects of one bucket. No answer, 429 and 5xx raise UnavailableError, other refusals ServerError."""

    def __init__(self, place: Place, ca_file: str = "") -> None:
        self._place = place
        self._transport = Transport(place.endpoint, ca_file)

    async def close(self) -> None:
        await self._transport.close()

    @asynccontextmanager
    async def get(self, key: str, known_etag: str = "") -> AsyncIterator[tuple[Answer, AsyncIterator[bytes]]]:
        """The object: status 200 with its parts, 304 where it is still `known_etag`, 404 where there is none."""
        headers = {"If-None-Match": known_etag} if known_etag else {}
        url, signed = self._place.request("GET", key, headers=headers)
        async with self._transport.stream("GET", url, headers=signed, read_timeout_s=_READ_S) as (
            answer,
            body,
        ):
            if answer.status not in (200, 304, 404):
                said = b"".join([part async for part in body])
                raise _refusal(Answer(answer.status, answer.headers, said), "GET", key)
            yield answer, body

    async def put(self, key: str, path: Path) -> str:
        """Write a file as an object, whole or not at all; its ETag."""
        size = (await asyncio.to_thread(path.stat)).st_size
        if size > _WHOLE:
            return await self._put_parts(key, path, size)
        answer = await self._send("PUT", key, {}, path, 0, size)
        return answer.headers.get("etag", "")

    async def delete(self, key: str) -> None:
        await self._ask("DELETE", key, {}, (204, 200, 404))

    async def _put_parts(self, key: str, path: Path, size: int) -> str:
        begun = await self._ask("POST", key, {"uploads": ""}, (200,))
        upload = _text(begun.body, "UploadId")
        etags: list[str] = []
        try:
            for number, start in enumerate(range(0, size, PART), 1):
                query = {"partNumber": str(number), "uploadId": upload}
                part = await self._send("PUT", key, query, path, start, min(PART, size - start))
                etags.append(part.headers.get("etag", ""))
            return await self._complete(key, upload, etags)
        except BaseException:
            await asyncio.shield(self._abort(key, upload))
            raise

    async def _complete(self, key: str, upload: str, etags: list[str]) -> str:
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
            for number, etag in enumerate(etags, 1)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        done = await self._ask("POST", key, {"uploadId": upload}, (200,), body)
        if b"<Error>" in done.body:  # S3 may say 200 and mean otherwise
            raise UnavailableError(f"S3: {_text(done.body, 'Message') or 'the upload was not completed'}")
        return _text(done.body, "ETag").replace("&quot;", '"')

    async def _abort(self, key: str, upload: str) -> None:
        """What can't be given up now, a lifecycle rule of the bucket removes."""
        try:
            await self._ask("DELETE", key, {"uploadId": upload}, (204, 200, 404))
        except ServerError:
            return

    async def _ask(
        self, method: str, key: str, query: Mapping[str, str], good: tuple[int, ...], body: bytes = b""
    ) -> Answer:
        url, signed = self._place.request(method, key, query, payload=hashlib.sha256(body).hexdigest())
        answer = await self._transport.request(
            method, url, headers=signed, content=body, read_timeout_s=_READ_S
        )
        if answer.status not in good:
            raise _refusal(answer, method, key)
        return answer

    async def _send(
        self, method: str, key: str, query: Mapping[str, str], path: Path, start: int, size: int
    ) -> Answer:
        """A part of a file. Under TLS the body is not signed, since nobody can change it on its way."""
        is_tls = self._place.endpoint.startswith("https://")
        payload = UNSIGNED if is_tls else await asyncio.to_thread(_digest, path, start, size)
        url, signed = self._place.request(method, key, query, {"Content-Length": str(size)}, payload)
        answer = await self._transport.request(
            method, url, headers=signed, content=parts_of(path, start, size), read_timeout_s=_PART_S
        )
        if answer.status != 200:
            raise _refusal(answer, method, key)
        return answer


def _refusal(answer: Answer, method: str, key: str) -> ServerError:
    said = _text(answer.body, "Code") or _text(answer.body, "Message")
    text = f"S3 {method} {key}: the endpoint answered {answer.status}" + (f" ({said})" if said else "")
    if answer.is_transient:
        return UnavailableError(text, answer.status, answer.retry_after_s)
    return ServerError(text, answer.status)


def _text(document: bytes, tag: str) -> str:
    """The first element `tag` of S3's flat XML: read as text, so no entity of it is ever expanded."""
    found = re.search(_TAG.format(tag), document[: 1 << 20].decode(errors="replace"))
    return found.group(1).strip() if found else ""


def _digest(path: Path, start: int, size: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(start)
        while size > 0 and (data := file.read(min(_CHUNK, size))):
            digest.update(data)
            size -= len(data)
    return digest.hexdigest()
