"""Images of job containers: found on the machine or pulled by the daemon, and who their user is in numbers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker.errors import DockerException, ImageNotFound

from nautilus_runner.errors import ImagePullFailed, JobMisconfigured
from nautilus_runner.executors import container_files, containers
from nautilus_runner.executors.image_record import ImageBook
from nautilus_runner.payload import Credentials

_PASSWD_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Images:
    """`credentials` come from the server, `auth_config` from the user (DOCKER_AUTH_CONFIG), `auth_file` names the
    runner's own logins; `say` writes to the log. `platform`: of the image, where the job names one (`linux/arm64`).

    Nothing is pulled before `accepted`: until the server has accepted our claim, its credentials open nothing.
    """

    api: Any
    credentials: Sequence[Credentials]
    auth_config: str
    say: Callable[[str], None]
    accepted: asyncio.Event
    book: ImageBook | None = None
    auth_file: str = ""
    platform: str = ""

    async def ensure(self, image: str, policies: Sequence[str]) -> dict[str, Any]:
        """The image's description; pulled where the policies, tried in order, want it. Raises ImagePullFailed."""
        found = await self._ensured(image, policies)
        if self.book is not None:
            await asyncio.to_thread(self.book.used, str(found["Id"]))
        return found

    async def _ensured(self, image: str, policies: Sequence[str]) -> dict[str, Any]:
        problem = ""
        for policy in policies:
            if policy in ("never", "if-not-present"):
                with contextlib.suppress(ImageNotFound):
                    return await self._inspect(image)
                problem = f"{image} is not on this machine (pull policy {policy})"
            if policy in ("always", "if-not-present"):
                await self.accepted.wait()
                auth = containers.pull_credentials(
                    image, self.credentials, self.auth_config, self._own_logins()
                )
                if auth is not None:
                    registry = containers.registry_of(image)
                    self.say(f"Authenticating as {auth['username']} at {registry} ...")
                self.say(f"Pulling docker image {image} ...")
                try:
                    return await self._pulled(image, auth)
                except DockerException as error:
                    problem = explain(error)
                    self.say(f"WARNING: Failed to pull image with policy {policy!r}: {problem}")
        raise ImagePullFailed(
            f"failed to pull image {image!r} with specified policies {list(policies)}: {problem}"
        )

    async def _pulled(self, image: str, auth: dict[str, str] | None) -> dict[str, Any]:
        """Pull, and write down what was not here before: only that may be removed again one day."""
        before = ""
        with contextlib.suppress(ImageNotFound):
            before = (await self._inspect(image))["Id"]
        await asyncio.to_thread(self._pull, image, auth)
        found = await self._inspect(image)
        if self.book is not None and found["Id"] != before:
            await asyncio.to_thread(self.book.brought, str(found["Id"]), image)
        return found

    def _own_logins(self) -> str:
        try:
            return Path(self.auth_file).read_text() if self.auth_file else ""
        except (OSError, UnicodeDecodeError) as error:
            self.say(f"WARNING: registry_auth_file {self.auth_file} can't be read: {error}")
            return ""

    async def _inspect(self, image: str) -> dict[str, Any]:
        found: dict[str, Any] = await asyncio.to_thread(self.api.inspect_image, image)
        return found

    def _pull(self, image: str, auth: dict[str, str] | None) -> None:
        has_tag = "@" in image or ":" in image.rpartition("/")[2]
        tag = None if has_tag else "latest"
        wanted = {"platform": self.platform} if self.platform else {}
        for line in self.api.pull(image, tag=tag, stream=True, decode=True, auth_config=auth, **wanted):
            if error := line.get("error"):
                raise DockerException(str(error))


def owner_of(api: Any, container: str, user: str) -> tuple[int, int]:
    """The numbers of a `user[:group]`; names are looked up in the container's own files. Blocking.

    Raises JobMisconfigured for a user that the image does not have.
    """
    name, _, group = user.partition(":")
    if not name or name in ("0", "root"):
        return 0, 0
    if name.isdigit():
        return int(name), int(group) if group.isdigit() else 0
    passwd = container_files.read_file(api, container, "/etc/passwd", _PASSWD_LIMIT)
    rows = [row.split(":") for row in passwd.decode(errors="replace").splitlines()]
    row = next((row for row in rows if row[0] == name and len(row) > 3), None)
    if row is None or not (row[2].isdigit() and row[3].isdigit()):
        raise JobMisconfigured(f"the image has no user {name!r}")
    return int(row[2]), int(group) if group.isdigit() else int(row[3])


def explain(error: BaseException) -> str:
    """What the daemon said went wrong, in one line."""
    text = getattr(error, "explanation", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:500]
