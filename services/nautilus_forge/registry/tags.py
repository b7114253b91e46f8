"""Tags of a repository: what one stands for, and taking one away without its siblings.

Source: gitlabhq lib/container_registry/tag.rb, app/services/projects/container_repository/third_party/
delete_tags_service.rb.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from nautilus_forge.registry.client import IMAGE_CONFIG, MANIFEST, Manifest
from nautilus_forge.registry.errors import RegistryRefused
from nautilus_forge.registry.half import ContainerRegistry

_MOST_PLATFORMS = 32

_EMPTY_CONFIG = orjson.dumps({"config": {"Labels": {"nautilus.tag": "being deleted"}}})
_EMPTY_MANIFEST = orjson.dumps(
    {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": IMAGE_CONFIG,
            "size": len(_EMPTY_CONFIG),
            "digest": f"sha256:{hashlib.sha256(_EMPTY_CONFIG).hexdigest()}",
        },
        "layers": [],
    }
)
_EMPTY_DIGEST = f"sha256:{hashlib.sha256(_EMPTY_MANIFEST).hexdigest()}"
"""What a tag stands for in the moment before it goes, where the registry cannot delete a tag alone."""


@dataclass(frozen=True)
class TagDetails:
    """`revision`: digest of the image's configuration without `sha256:`; `total_size` in bytes, of its layers.

    Of an image for several platforms these are of its first platform (the size: of all together).
    """

    name: str
    digest: str
    revision: str | None
    created_at: datetime | None
    total_size: int | None


async def tag_details(registry: ContainerRegistry, path: str, name: str) -> TagDetails | None:
    """None where there is no such tag. Raises `RegistryUnavailable`, `RegistryRefused`."""
    manifest = await registry.client.manifest(path, name)
    if manifest is None or manifest.digest == _EMPTY_DIGEST:
        return None
    images = await _images(registry, path, manifest)
    first = _mapping(images[0].body.get("config")) if images else {}
    digest = str(first.get("digest") or "")
    config = await registry.client.config(path, digest) if digest else None
    return TagDetails(
        name,
        manifest.digest,
        digest.removeprefix("sha256:") or None,
        _time((config or {}).get("created")),
        sum(map(_size, images)) if images else None,
    )


async def _images(registry: ContainerRegistry, path: str, manifest: Manifest) -> Sequence[Manifest]:
    """The manifest, or those of the platforms that it lists."""
    if not manifest.is_index:
        return [manifest]
    listed = manifest.body.get("manifests")
    entries = [_mapping(entry) for entry in listed[:_MOST_PLATFORMS]] if isinstance(listed, list) else []
    real = [entry for entry in entries if _mapping(entry.get("platform")).get("os") != "unknown"]
    found = [await registry.client.manifest(path, str(entry.get("digest"))) for entry in real]
    return [one for one in found if one is not None and not one.is_index]


def _size(manifest: Manifest) -> int:
    layers = manifest.body.get("layers")
    sizes = [_mapping(layer).get("size") for layer in layers] if isinstance(layers, list) else []
    return sum(size for size in sizes if isinstance(size, int))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _time(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


async def delete_tags(registry: ContainerRegistry, path: str, names: Sequence[str]) -> None:
    """Each tag goes, and no other tag of the same image with it.

    A registry that deletes by digest alone (version 2) gets an empty image under the tag first, and then that
    image is deleted; what a crash leaves of it goes with the next deletion in the repository.
    Raises `RegistryUnavailable`, `RegistryRefused`.
    """
    async with registry.locks[path]:
        left = [name for name in names if not await _delete_alone(registry, path, name)]
        if not left:
            return
        await registry.client.put_blob(path, _EMPTY_CONFIG)
        for name in left:
            await registry.client.put_manifest(path, name, _EMPTY_MANIFEST)
        await registry.client.delete_manifest(path, _EMPTY_DIGEST)


async def _delete_alone(registry: ContainerRegistry, path: str, name: str) -> bool:
    """True when the tag is gone, by us or anyhow."""
    if await registry.client.delete_manifest(path, name):
        return True
    return await registry.client.manifest(path, name) is None


async def delete_images(registry: ContainerRegistry, path: str) -> None:
    """All tags of the repository and what they stand for. Raises `RegistryUnavailable`, `RegistryRefused`."""
    async with registry.locks[path]:
        before: list[str] = []
        while names := await registry.client.tags(path):
            if names == before:
                raise RegistryRefused(f"the registry does not delete tags of {path}: {', '.join(names[:5])}")
            for name in names:
                manifest = await registry.client.manifest(path, name)
                if manifest is not None:
                    await registry.client.delete_manifest(path, manifest.digest)
            before = names
