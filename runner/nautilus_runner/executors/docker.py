"""Jobs in containers of the Docker daemon (20.10 and later), beside the runner or beside the container it lives in.

A job has one volume, mounted at /builds, and one container, which runs one script at a time (it is started again
for after_script). The container is started while the sources are still fetched: it waits for a word on its input,
which ends with us, so that without the word nothing ever runs. The daemon never sees a folder of ours: files go in and
out as tar streams. Everything made for a job carries its key as a label, so that it is found, or removed, after a
restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from docker.errors import DockerException, NotFound

from nautilus_runner.building import wishes as building
from nautilus_runner.building.builder import ImageBuilder
from nautilus_runner.building.shelf import Shelf
from nautilus_runner.clone_path import project_path
from nautilus_runner.errors import JobError, SystemFailure
from nautilus_runner.executors import (
    carrier,
    container_files,
    container_usage,
    containers,
    daemon,
    image_rules,
    images,
)
from nautilus_runner.executors.base import Announce, Context, Exit, Handle, Place, Script
from nautilus_runner.executors.container_runs import ContainerRuns
from nautilus_runner.executors.data_mounts import DataMounts
from nautilus_runner.executors.image_record import ImageBook
from nautilus_runner.executors.job_containers import JobContainers
from nautilus_runner.files.removal import remove_tree
from nautilus_runner.files.tree import Tree
from nautilus_runner.gpus import devices
from nautilus_runner.live.container import ContainerFolder
from nautilus_runner.live.folder import LiveFolder
from nautilus_runner.network import modes
from nautilus_runner.network.joining import Joined, Networking
from nautilus_runner.network.modes import NetworkMode
from nautilus_runner.usage.reading import Reading

log = logging.getLogger(__name__)

T = TypeVar("T")


class DockerExecutor:
    """One job's containers, on a network that `networking` gives to the job alone."""

    name = "docker"

    def __init__(
        self,
        context: Context,
        api: Any,
        system_id: str,
        networking: Networking,
        shares: DataMounts,
        shelf: Shelf,
        book: ImageBook | None = None,
    ) -> None:
        self._context = context
        self._settings = context.settings.docker
        self._api = api
        self._system_id = system_id
        self._project = project_path(context.job)
        self._stage = context.folder / "stage"
        self._name = f"nautilus-{system_id[-6:]}-{context.key}"
        self._networking = networking
        self._shares = shares
        self._book = book
        self._shelf = shelf
        self._joined = Joined("none")
        self._container = ""
        self._is_running = False
        self._is_adopted = False
        self._owner = (0, 0)
        self._runs = ContainerRuns(api, context.folder)
        self._launching: asyncio.Task[None] | None = None
        self._carrier: asyncio.Task[str] | None = None
        self._under_way: list[asyncio.Task[Any]] = []

    def place(self) -> Place:
        return Place(containers.BUILDS, f"{containers.BUILDS}/{self._project}", is_shared=False)

    def stage(self) -> Any:
        remove_tree(self._stage)
        self._stage.mkdir(mode=0o700)
        return self._stage

    # ---- prepare

    async def prepare(self) -> None:
        job = self._context.job
        wish = building.wish_of(job, self._context.variables)
        image = self._context.variables.expand(job.image.name) or self._settings.image
        named = f"the image of {wish.dockerfile}" if wish else f"image {image}"
        self._context.say(f"Using Docker executor with {named} ...")
        if self._context.is_again:
            await daemon.ask(self._remove_everything)
        joining = self._begin(self._join_network())
        if wish is None:
            wanted = image_rules.policies(job.image.pull_policy, self._settings)
            found = await self._ensure_image(image, wanted, job.image.executor_opts.docker.platform)
            await asyncio.shield(joining)
        else:
            await asyncio.shield(joining)
            image, found = await self._build_image(wish)
        await self._containers.start_services(self._ensure_image)
        self._context.say(f"Using docker image {found['Id']} for {image} ...")
        if self._settings.allow_docker_socket:
            self._context.say("WARNING: this job has the Docker socket, and so the whole machine.")
        self._carrier = self._begin(daemon.ask(self._make_carrier, found["Id"]))
        await asyncio.shield(self._begin(daemon.ask(self._create_container, image, found)))
        await self._context.accepted.wait()
        handle = self._runs.handle(0, self._container, self._owner)
        self._launching = self._begin(self._runs.launch(handle))
        self._begin(self._drop_carrier(self._carrier))

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Work that makes something of the job's at the daemon, or removes it: `cleanup` waits for it first."""
        task = asyncio.create_task(work)
        self._under_way.append(task)
        return task

    async def _build_image(self, wish: building.BuildWish) -> tuple[str, dict[str, Any]]:
        """From the checkout, as soon as it is there; nothing of a job's was in it yet."""
        if self._context.sources is not None:
            await asyncio.shield(self._context.sources)
        builder = ImageBuilder(
            self._api, self._context, self._shelf, self._joined, self._ensure_image, self._book
        )
        try:
            return await builder.build(wish, self._stage)
        except (DockerException, OSError) as error:
            raise SystemFailure(f"Docker: {images.explain(error)}") from error

    async def _join_network(self) -> None:
        context = self._context
        mode = modes.asked_for(
            context.variables.get(modes.VARIABLE), NetworkMode(context.settings.network_mode)
        )
        self._joined = await daemon.ask(
            self._networking.join,
            context.settings,
            mode,
            context.key,
            has_services=bool(context.job.services),
        )
        if mode is not NetworkMode.FULL:
            led = ", ".join(map(str, self._joined.led)) or "nothing"
            context.say(f"Network of this job: {mode}; it reaches {led}.")

    async def _ensure_image(
        self, image: str, policies: tuple[str, ...], platform: str = "", *, is_service: bool = False
    ) -> dict[str, Any]:
        if not is_service:
            image_rules.check(image, self._settings.allowed_images, (self._settings.image,), "allowed_images")
        store = images.Images(
            self._api,
            self._context.job.credentials,
            self._context.variables.value("DOCKER_AUTH_CONFIG"),
            self._context.say,
            self._context.accepted,
            self._book,
            self._settings.registry_auth_file,
            platform,
        )
        return await store.ensure(image, policies)

    def _create_container(self, image: str, found: dict[str, Any]) -> None:
        context = self._context
        shared = self._shares.mounts(image, context.key, context.shared)
        self._container = self._containers.create_job(image, self._project, shared)
        named = context.job.image.executor_opts.docker.user or found.get("Config", {}).get("User") or ""
        self._owner = images.owner_of(self._api, self._container, named)

    @property
    def _containers(self) -> JobContainers:
        return JobContainers(self._context, self._api, self._system_id, self._name, self._joined)

    def _make_carrier(self, image: str) -> str:
        made = self._containers
        return carrier.make_carrier(self._api, self._name, image, made.volume(), made.labels("carrier"))

    async def _drop_carrier(self, made: asyncio.Task[str]) -> None:
        """Only when the script has begun: before, the daemon has enough to do."""
        await self._runs.has_spoken.wait()
        await daemon.ask(carrier.remove_carrier, self._api, await asyncio.shield(made))

    # ---- run

    async def adopt(self) -> None:
        files = self._context.variables.files()
        if self._context.first is not None:
            files[".script"] = self._context.first.text
        through = await asyncio.shield(self._carrier) if self._carrier else self._container
        await daemon.ask(
            container_files.put_tree,
            self._api,
            through,
            self._stage,
            self._project,
            files,
            self._owner,
        )
        self._is_adopted = True

    async def start(self, script: Script, announce: Announce) -> Handle:
        launching, self._launching = self._launching, None
        handle = self._runs.handle(script.number, self._container, self._owner)
        if launching is not None and script == self._context.first:
            # it never ran before, so who finds it after a crash sees that; that is written down while it starts
            await asyncio.gather(asyncio.shield(launching), announce(handle))
        else:
            if launching is not None:
                await asyncio.shield(launching)
            put, tmp = container_files.put_files, f"{self._project}.tmp"
            await daemon.ask(put, self._api, self._container, tmp, {".script": script.text}, self._owner)
            if launching is None:
                await self._runs.launch(handle)
            await announce(handle)
        self._runs.begin(script.number)
        self._is_running = True
        return handle

    def logs(self, handle: Handle) -> AsyncIterator[bytes]:
        return self._runs.logs(handle)

    async def wait(self, handle: Handle) -> Exit:
        if self._context.gpus.uuids and (lost := await self._lost_gpu(handle)):
            return Exit(1, is_system_failure=True, note=lost)
        ended = await self._runs.exit(handle, self._context.limits)
        self._is_running = False
        return ended

    async def _lost_gpu(self, handle: Handle) -> str:
        """Waits for the run's end, or ends it where the container can't reach its GPUs any more: then why."""
        ended = self._runs.ended(handle)
        if not (lost := await devices.lost_before(ended, self._api, handle["container"])):
            return ""
        await self.stop(handle, self._settings.grace_s)
        return lost

    async def stop(self, handle: Handle, grace_s: float) -> None:
        container = handle["container"]
        with contextlib.suppress(JobError, NotFound):
            if grace_s > 0:
                await daemon.ask(self._terminate_all, container)
                await daemon.ask(self._api.stop, container, int(grace_s) or 1)
            else:
                await daemon.ask(self._api.kill, container)
        await asyncio.shield(self._runs.ended(handle))

    def _terminate_all(self, container: str) -> None:
        """SIGTERM to every process, not only to the first: a shell waits for its children before it minds it."""
        with contextlib.suppress(DockerException):
            made = self._api.exec_create(container, ["sh", "-c", "kill -TERM -1"], stdout=False, stderr=False)
            self._api.exec_start(made["Id"], detach=True)

    def tree(self) -> Tree:
        return container_files.ContainerTree(self._api, self._container, self._project)

    def folder(self) -> LiveFolder | None:
        if not self._is_adopted:
            return None
        return ContainerFolder(self._api, self._container, self._project, self._owner)

    async def reattach(self, handle: Handle) -> bool:
        self._container = handle["container"]
        self._is_adopted = True
        self._owner = (handle["owner"][0], handle["owner"][1])
        self._is_running = await self._runs.found_again(handle)
        return self._is_running

    async def usage(self) -> Reading | None:
        if not self._is_running:
            return None
        return await asyncio.to_thread(container_usage.read_stats, self._api, self._container)

    async def disk_bytes(self) -> int | None:
        if not self._is_running:
            return None
        return await asyncio.to_thread(container_usage.disk_bytes, self._api, self._container, self._name)

    def watched(self) -> frozenset[str]:
        return frozenset()  # the daemon keeps them all

    # ---- cleanup

    async def cleanup(self) -> None:
        self._runs.has_spoken.set()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        self._runs.close()
        with contextlib.suppress(JobError, DockerException):
            await daemon.ask(self._remove_everything)
        await asyncio.to_thread(remove_tree, self._stage)

    def _remove_everything(self) -> None:
        daemon.remove_labelled(self._api, f"{containers.LABEL_JOB}={self._context.key}")
        self._networking.pool.release(self._context.key)
