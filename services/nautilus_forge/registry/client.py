"""The registry's own HTTP API, on its unix socket, for one repository at a time.

Source: https://distribution.github.io/distribution/spec/api/, gitlabhq lib/container_registry/client.rb.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from nautilus_forge.registry.errors import RegistryRefused, RegistryUnavailable
from nautilus_forge.registry.signing import Signer

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
IMAGE_CONFIG = "application/vnd.docker.container.image.v1+json"
INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS = (MANIFEST, "application/vnd.oci.image.manifest.v1+json", *INDEXES)
_TIMEOUT_S = 20.0
_LONGEST_BODY = 8 << 20
_MOST_PAGES = 1000


@dataclass(frozen=True)
class Answer:
    """`headers` by their names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Manifest:
    """What a tag or digest stands for; `media_type` is one of `INDEXES` where it lists manifests."""

    digest: str
    media_type: str
    body: dict[str, Any]

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEXES


class RegistryClient:
    """Every method raises `RegistryUnavailable`, and `RegistryRefused` for an answer that it does not know."""

    def __init__(self, socket_path: Path, signer: Signer) -> None:
        self._socket_path = socket_path
        self._signer = signer

    async def tags(self, path: str) -> list[str]:
        """All tags, sorted; none for a repository that does not exist."""
        found: list[str] = []
        url = f"/v2/{path}/tags/list"
        for _ in range(_MOST_PAGES):
            answer = await self._ask("GET", path, url)
            if answer.status == 404:
                break
            found += _json(self._expect(answer, 200, "GET", url)).get("tags") or []
            following = _next_page(answer.headers.get("link", ""))
            if following is None:
                break
            url = following
        return sorted(found)

    async def manifest(self, path: str, reference: str) -> Manifest | None:
        """By tag or digest; None where there is none."""
        url = f"/v2/{path}/manifests/{quote(reference, safe=':')}"
        answer = await self._ask("GET", path, url, headers={"Accept": ", ".join(_MANIFESTS)})
        if answer.status == 404:
            return None
        self._expect(answer, 200, "GET", url)
        media_type = answer.headers.get("content-type", "").partition(";")[0].strip()
        return Manifest(answer.headers.get("docker-content-digest", ""), media_type, _json(answer))

    async def config(self, path: str, digest: str) -> dict[str, Any] | None:
        """The JSON object that a manifest names as its image's configuration; None where it is gone."""
        url = f"/v2/{path}/blobs/{quote(digest, safe=':')}"
        answer = await self._ask("GET", path, url)
        return None if answer.status == 404 else _json(self._expect(answer, 200, "GET", url))

    async def delete_manifest(self, path: str, reference: str) -> bool:
        """By digest: with all its tags. By tag: the tag alone, where the registry can. False: it did nothing."""
        url = f"/v2/{path}/manifests/{quote(reference, safe=':')}"
        answer = await self._ask("DELETE", path, url)
        if answer.status == 405 and reference.startswith("sha256:"):
            raise RegistryUnavailable("the container registry is read-only")
        if answer.status in (400, 404, 405):
            return False
        self._expect(answer, 202, "DELETE", url)
        return True

    async def put_blob(self, path: str, content: bytes) -> str:
        """Its digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        url = f"/v2/{path}/blobs/uploads/"
        begun = await self._ask("POST", path, url)
        if begun.status == 405:
            raise RegistryUnavailable("the container registry is read-only")
        location = self._expect(begun, 202, "POST", url).headers.get("location", "")
        target = "/" + location.split("://", 1)[-1].partition("/")[2] if "://" in location else location
        joint = "&" if "?" in target else "?"
        put = f"{target}{joint}digest={quote(digest, safe='')}"
        kind = {"Content-Type": "application/octet-stream"}
        self._expect(await self._ask("PUT", path, put, kind, content), 201, "PUT", url)
        return digest

    async def put_manifest(self, path: str, reference: str, content: bytes) -> str:
        """Its digest."""
        url = f"/v2/{path}/manifests/{quote(reference, safe=':')}"
        answer = await self._ask("PUT", path, url, {"Content-Type": MANIFEST}, content)
        return self._expect(answer, 201, "PUT", url).headers.get("docker-content-digest", "")

    async def _ask(
        self, method: str, path: str, url: str, headers: Mapping[str, str] = {}, body: bytes | None = None
    ) -> Answer:
        sent = {"Authorization": f"Bearer {self._signer.full_access(path)}", "Host": "registry", **headers}
        try:
            answer = await asyncio.to_thread(_exchange, self._socket_path, method, url, sent, body)
        except (OSError, http.client.HTTPException) as error:
            raise RegistryUnavailable from error
        if answer.status in (502, 503, 504):
            raise RegistryUnavailable
        return answer

    @staticmethod
    def _expect(answer: Answer, status: int, method: str, url: str) -> Answer:
        if answer.status != status:
            text = answer.body[:300].decode("utf-8", "replace").strip()
            raise RegistryRefused(f"the registry answered {method} {url} with {answer.status}: {text}")
        return answer


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("registry", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _exchange(
    socket_path: Path, method: str, url: str, headers: Mapping[str, str], body: bytes | None
) -> Answer:
    connection = _UnixConnection(socket_path)
    try:
        connection.request(method, url, body=body, headers=dict(headers))
        answer = connection.getresponse()
        content = answer.read(_LONGEST_BODY + 1)
        if len(content) > _LONGEST_BODY:
            raise RegistryRefused(
                f"the registry's answer to {method} {url} is longer than {_LONGEST_BODY} bytes"
            )
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, content)
    finally:
        connection.close()


def _json(answer: Answer) -> dict[str, Any]:
    try:
        value = orjson.loads(answer.body)
    except ValueError as error:
        raise RegistryRefused("the registry answered with no JSON") from error
    return value if isinstance(value, dict) else {}


def _next_page(link: str) -> str | None:
    """The path of `<…>; rel="next"`."""
    target, _, rest = link.partition(">")
    if 'rel="next"' not in rest or not target.startswith("<"):
        return None
    url = target[1:]
    return "/" + url.split("://", 1)[1].partition("/")[2] if "://" in url else url
