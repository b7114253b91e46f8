"""The container registry's part of a forge, made once with it (`Forge.registry`)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.requests import Request

from nautilus_forge.db.dependency import forge_of
from nautilus_forge.errors import NotFound
from nautilus_forge.registry.client import RegistryClient
from nautilus_forge.registry.signing import Signer

if TYPE_CHECKING:
    from nautilus_forge.forge import Forge


@dataclass
class ContainerRegistry:
    """`host` begins the images' names (`localhost:5050`). `work`: set to have the background work looked at now.

    `locks`: by path, so that the replacing of one tag and the deletion of another do not cross.
    """

    host: str
    signer: Signer
    client: RegistryClient
    work: asyncio.Event = field(default_factory=asyncio.Event)
    locks: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    is_started: bool = False

    def location(self, path: str) -> str:
        """What `docker pull` takes."""
        return f"{self.host}/{path}"


def join(forge: Forge) -> None:
    """Gives the forge its registry, where the settings name one, and the work that goes on behind it."""
    from nautilus_forge.registry.worker import RegistryWorker

    settings = forge.settings
    if settings.registry_host is None:
        return
    if not (settings.registry_socket and settings.registry_key_file and settings.registry_certificate_file):
        raise ValueError(
            "FORGE_REGISTRY_EXTERNAL_URL needs FORGE_REGISTRY_SOCKET, _KEY_FILE and _CERTIFICATE_FILE too"
        )
    signer = Signer(settings.registry_key_file, settings.registry_certificate_file)
    client = RegistryClient(settings.registry_socket, signer)
    registry = forge.registry = ContainerRegistry(settings.registry_host, signer, client)

    async def start(forge: Forge) -> None:
        if not registry.is_started:
            registry.is_started = True
            forge.spawn(RegistryWorker(forge, registry).run(), "container registry")

    forge.on_ready.append(start)


async def the_registry(request: Request) -> ContainerRegistry:
    """A dependency. Raises `NotFound` where this instance has no container registry."""
    registry = forge_of(request).registry
    if registry is None:
        raise NotFound
    return registry
