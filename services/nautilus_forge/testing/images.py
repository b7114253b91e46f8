"""A client of the registry that does what docker does: asks for tokens, pushes and pulls small images."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
import orjson

from nautilus_forge.registry.client import IMAGE_CONFIG, INDEXES, MANIFEST

LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class Refused(Exception):
    """The forge or the registry said no: `status` and the body's first error."""

    def __init__(self, answer: httpx.Response) -> None:
        errors = answer.json().get("errors", [{}]) if answer.content else [{}]
        self.status, self.code = answer.status_code, str(errors[0].get("code", ""))
        super().__init__(
            f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text[:300]}"
        )


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True)
class DockerClient:
    """`registry` is an httpx client whose base is the registry; `auth_url` the forge's `/jwt/auth`.

    Without `login` it asks as nobody.
    """

    registry: httpx.Client
    auth_url: str
    login: tuple[str, str] | None = None

    def authorise(self, *scopes: str, service: str = "container_registry") -> httpx.Response:
        """The forge's answer, whatever it is."""
        params: list[tuple[str, str | int | float | bool | None]] = [("service", service)]
        params += [("account", self.login[0])] if self.login else []
        params += [("scope", scope) for scope in scopes]
        return httpx.get(self.auth_url, params=params, auth=self.login, timeout=30)

    def token(self, *scopes: str) -> str:
        """Raises `Refused`."""
        answer = self.authorise(*scopes)
        if answer.status_code != 200:
            raise Refused(answer)
        return str(answer.json()["token"])

    def challenge(self) -> dict[str, str]:
        """What the registry asks of those who come without a token."""
        answer = self.registry.get("/v2/")
        assert answer.status_code == 401
        return dict(_CHALLENGE.findall(answer.headers["WWW-Authenticate"]))

    def push(self, path: str, *tags: str, content: bytes = b"layer", created: datetime | None = None) -> str:
        """An image of one layer under these tags; its digest. Raises `Refused`."""
        token = self.token(f"repository:{path}:pull,push")
        config: dict[str, Any] = {"architecture": "amd64", "os": "linux", "config": {}}
        if created is not None:
            config["created"] = created.isoformat()
        parts = [(IMAGE_CONFIG, orjson.dumps(config)), (LAYER, content)]
        described = [
            {"mediaType": kind, "size": len(blob), "digest": self._upload(token, path, blob)}
            for kind, blob in parts
        ]
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described[0],
            "layers": described[1:],
        }
        return self.put_manifest(path, tags, orjson.dumps(manifest), token=token)

    def push_index(self, path: str, tag: str, *digests: str) -> str:
        """A manifest list of images that are there already; its digest."""
        listed = [
            {
                "mediaType": MANIFEST,
                "digest": digest,
                "size": len(self.manifest(path, digest).content),
                "platform": {"os": "linux", "architecture": f"arch{number}"},
            }
            for number, digest in enumerate(digests)
        ]
        index = {"schemaVersion": 2, "mediaType": INDEXES[1], "manifests": listed}
        return self.put_manifest(path, (tag,), orjson.dumps(index), INDEXES[1])

    def put_manifest(
        self, path: str, tags: tuple[str, ...], content: bytes, kind: str = MANIFEST, *, token: str = ""
    ) -> str:
        token = token or self.token(f"repository:{path}:pull,push")
        for tag in tags:
            headers = {"Authorization": f"Bearer {token}", "Content-Type": kind}
            answer = self.registry.put(f"/v2/{path}/manifests/{tag}", content=content, headers=headers)
            if answer.status_code != 201:
                raise Refused(answer)
        return digest_of(content)

    def manifest(self, path: str, reference: str) -> httpx.Response:
        """The registry's answer, whatever it is. Raises `Refused` where there is no token to pull."""
        token = self.token(f"repository:{path}:pull")
        accept = ", ".join((MANIFEST, *INDEXES))
        return self.registry.get(
            f"/v2/{path}/manifests/{reference}",
            headers={"Authorization": f"Bearer {token}", "Accept": accept},
        )

    def pull(self, path: str, reference: str) -> list[bytes]:
        """The layers. Raises `Refused`."""
        answer = self.manifest(path, reference)
        if answer.status_code != 200:
            raise Refused(answer)
        token = self.token(f"repository:{path}:pull")
        return [self._blob(token, path, layer["digest"]) for layer in answer.json()["layers"]]

    def _blob(self, token: str, path: str, digest: str) -> bytes:
        headers = {"Authorization": f"Bearer {token}"}
        answer = self.registry.get(f"/v2/{path}/blobs/{digest}", headers=headers)
        if answer.status_code != 200:
            raise Refused(answer)
        assert digest_of(answer.content) == digest
        return answer.content

    def _upload(self, token: str, path: str, blob: bytes) -> str:
        headers = {"Authorization": f"Bearer {token}"}
        begun = self.registry.post(f"/v2/{path}/blobs/uploads/", headers=headers)
        if begun.status_code != 202:
            raise Refused(begun)
        digest = digest_of(blob)
        headers |= {"Content-Type": "application/octet-stream"}
        url = httpx.URL(begun.headers["Location"]).copy_merge_params({"digest": digest})
        done = self.registry.put(url, content=blob, headers=headers)
        if done.status_code != 201:
            raise Refused(done)
        return digest
