"""A job's image from the job's own Dockerfile: checked, named by its content, built once, pushed if asked."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker.errors import DockerException

from nautilus_runner.building import dockerfile as dockerfiles
from nautilus_runner.building import sending
from nautilus_runner.building.daemon import Build, Running
from nautilus_runner.building.shelf import Shelf
from nautilus_runner.building.wishes import CONTEXT, DOCKERFILE, BuildWish, found_below
from nautilus_runner.errors import ImageBuildFailed, JobMisconfigured, SystemFailure
from nautilus_runner.executors import containers, images
from nautilus_runner.executors.base import Context
from nautilus_runner.executors.image_record import ImageBook
from nautilus_runner.network.joining import Joined

_MIB = 1 << 20
_DOCKERFILE_LIMIT = 1 << 20
Ensure = Callable[[str, tuple[str, ...]], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is known before the daemon is asked to build."""

    key: str
    archive: Path
    dockerfile: str


class ImageBuilder:
    """For one job. `ensure` finds or pulls an image as the job's policies and logins have it; `book` is where names
    are noted that stay on this machine."""

    def __init__(
        self,
        api: Any,
        context: Context,
        shelf: Shelf,
        joined: Joined,
        ensure: Ensure,
        book: ImageBook | None = None,
    ) -> None:
        self._api = api
        self._context = context
        self._settings = context.settings.build
        self._shelf = shelf
        self._joined = joined
        self._ensure = ensure
        self._book = book

    async def build(self, wish: BuildWish, root: Path) -> tuple[str, dict[str, Any]]:
        """The image's name and description. `root`: the checked-out project. Raises JobError."""
        if not self._settings.enabled:
            raise JobMisconfigured(
                f"this runner builds no images ({DOCKERFILE} is set; runners.build.enabled)"
            )
        say = self._context.say
        parsed = await asyncio.to_thread(_read, root, wish)
        for directive in parsed.ignored:
            say(f"Dockerfile: '# {directive}' means nothing here: no frontend is fetched.")
        parsed, bases = dockerfiles.resolved(parsed, dict(wish.arguments))
        ids = [await self._base(name) for name in bases]
        plan = await asyncio.to_thread(self._plan, wish, root, parsed, ids)
        try:
            found = await asyncio.to_thread(self._shelf.find, plan.key)
            if found is not None:
                say(
                    f"Using the image that was built from the same files before ({self._shelf.tag(plan.key)})."
                )
            else:
                found = await self._built(wish, plan)
        finally:
            plan.archive.unlink(missing_ok=True)
        if wish.push:
            await self._push(found["Id"], wish.push)
        return self._shelf.tag(plan.key), found

    async def _base(self, name: str) -> str:
        """Its id, once it is there and brings nothing that is not done here."""
        context = self._context
        policies = context.job.image.pull_policy or context.settings.docker.pull_policy
        found = await self._ensure(name, tuple(policies))
        dockerfiles.check_triggers(name, (found.get("Config") or {}).get("OnBuild") or ())
        return str(found["Id"])

    def _plan(
        self, wish: BuildWish, root: Path, parsed: dockerfiles.Dockerfile, bases: Sequence[str]
    ) -> _Plan:
        folder = found_below(root, wish.context, CONTEXT)
        if not folder.is_dir():
            raise ImageBuildFailed(f"{CONTEXT}={wish.context}: it is no folder")
        archive = self._context.folder / "context.tar"
        try:
            with archive.open("wb") as out:
                text = parsed.text()
                name, files = sending.pack(folder, text, out, self._settings.context_limit_mib * _MIB)
        except ImageBuildFailed:
            archive.unlink(missing_ok=True)
            raise
        # whoever may not have the base image shall not have what another project made of it
        scope = f"{self._context.settings.url} {self._context.job.job_info.project_id}"
        parts = [scope, files, text, wish.arguments, wish.target, *bases]
        return _Plan(hashlib.sha256(json.dumps(parts).encode()).hexdigest(), archive, name)

    async def _built(self, wish: BuildWish, plan: _Plan) -> dict[str, Any]:
        settings, limits = self._settings, self._context.limits
        build = Build(
            plan.archive,
            plan.dockerfile,
            self._shelf.tag(plan.key),
            self._shelf.labels(plan.key),
            dict(wish.arguments),
            wish.target,
            self._joined.network,
            self._joined.hosts,
            settings.memory_mib or limits.memory_mib,
            settings.cpus or limits.cpus,
            self._context.settings.docker.shm_mib,
        )
        self._context.say(f"Building the image of {wish.dockerfile} ...")
        await self._run(build)
        found = await asyncio.to_thread(self._shelf.find, plan.key)
        if found is None:
            raise SystemFailure("the daemon says that it built the image, but does not have it")
        if found["Size"] > settings.image_limit_mib * _MIB:
            await asyncio.to_thread(self._shelf.remove, plan.key)
            raise ImageBuildFailed(
                f"the image has {found['Size'] // _MIB} MiB; this runner keeps images of up to "
                f"{settings.image_limit_mib} MiB (runners.build.image_limit_mib)"
            )
        await asyncio.to_thread(self._shelf.prune, settings.cache_limit_mib * _MIB)
        return found

    async def _run(self, build: Build) -> None:
        """Follow the build to its end; cancelled, it is ended at the daemon. Raises JobError."""
        loop = asyncio.get_running_loop()

        def say(line: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the runner has gone
                loop.call_soon_threadsafe(self._context.say, line)

        running = Running(self._api, build, say)
        following = asyncio.create_task(asyncio.to_thread(running.run))
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                await asyncio.shield(following)
        except TimeoutError as error:
            raise ImageBuildFailed(
                f"building the image took longer than {self._settings.timeout_s:.0f} s (runners.build.timeout_s)"
            ) from error
        except (DockerException, OSError) as error:
            raise ImageBuildFailed(f"the image can't be built: {images.explain(error)}") from error
        finally:
            if not following.done():
                running.end()
                await asyncio.gather(following, return_exceptions=True)

    async def _push(self, image: str, name: str) -> None:
        auth = containers.pull_credentials(name, self._context.job.credentials, "")
        self._context.say(f"Pushing the image to {name} ...")
        try:
            digest = await asyncio.to_thread(self._pushed, image, name, auth)
        except (DockerException, OSError) as error:
            raise ImageBuildFailed(f"the image can't be pushed to {name}: {images.explain(error)}") from error
        self._context.say(f"Pushed {name}{digest and f' ({digest})'}.")

    def _pushed(self, image: str, name: str, auth: dict[str, str] | None) -> str:
        """The digest that the registry has it by. The name stays here only where it is the registry's too."""
        repository, _, tag = name.rpartition(":") if ":" in name.partition("/")[2] else (name, "", "latest")
        digest = ""
        try:
            self._api.tag(image, repository, tag)
            for event in self._api.push(repository, tag=tag, stream=True, decode=True, auth_config=auth):
                if error := event.get("error"):
                    raise DockerException(str(error))
                digest = (event.get("aux") or {}).get("Digest", digest)
        except (DockerException, OSError):
            with contextlib.suppress(DockerException, OSError):
                self._api.remove_image(f"{repository}:{tag}", noprune=True)
            raise
        if self._book is not None:
            self._book.brought(image, f"{repository}:{tag}")
        return digest


def _read(root: Path, wish: BuildWish) -> dockerfiles.Dockerfile:
    path = found_below(root, wish.dockerfile, DOCKERFILE)
    if not path.is_file() or path.stat().st_size > _DOCKERFILE_LIMIT:
        raise ImageBuildFailed(f"{DOCKERFILE}={wish.dockerfile}: it is no file, or larger than 1 MiB")
    return dockerfiles.parse(path.read_text("utf-8", errors="replace"))
