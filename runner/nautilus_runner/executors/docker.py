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
from collections.abc import AsyncIterator, Callable
from typing import Any

from docker.errors import DockerException, NotFound

from nautilus_runner import shell
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
from nautilus_runner.executors.base import Announce, Context, Exit, Handle, OutputFile, Place, Script
from nautilus_runner.executors.container_output import LOST, ContainerOutput
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

_FIRST_OUTPUT_S = 2.0


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
        self._mounts: list[dict[str, Any]] = []
        self._is_running = False
        self._is_adopted = False
        self._owner = (0, 0)
        self._outputs: dict[int, ContainerOutput] = {}
        self._files: dict[int, OutputFile] = {}
        self._ends: dict[int, asyncio.Future[dict[str, Any] | None]] = {}
        self._totals = {"out": 0, "err": 0}
        self._launching: asyncio.Task[Handle] | None = None
        self._carrier: asyncio.Task[str] | None = None
        self._removing: asyncio.Task[None] | None = None

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
        if wish is None:
            wanted = image_rules.policies(job.image.pull_policy, self._settings)
            found = await self._ensure_image(image, wanted, job.image.executor_opts.docker.platform)
            await self._join_network()
        else:
            await self._join_network()
            image, found = await self._build_image(wish)
        await self._containers.start_services(self._ensure_image)
        self._context.say(f"Using docker image {found['Id']} for {image} ...")
        if self._settings.allow_docker_socket:
            self._context.say("WARNING: this job has the Docker socket, and so the whole machine.")
        await daemon.ask(self._create_container, image, found)
        await self._context.accepted.wait()
        self._launching = asyncio.create_task(self._launch(0))
        self._carrier = asyncio.create_task(daemon.ask(self._make_carrier, found["Id"]))

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
        self._container, self._mounts = self._containers.create_job(image, self._project, shared)
        named = context.job.image.executor_opts.docker.user or found.get("Config", {}).get("User") or ""
        self._owner = images.owner_of(self._api, self._container, named)

    @property
    def _containers(self) -> JobContainers:
        return JobContainers(self._context, self._api, self._system_id, self._name, self._joined)

    def _make_carrier(self, image: str) -> str:
        labels = self._containers.labels("carrier")
        return carrier.make_carrier(self._api, self._name, image, self._mounts, labels)

    # ---- run

    async def adopt(self) -> None:
        files = self._context.variables.files()
        if self._context.first is not None:
            files[".script"] = self._context.first.text
        through = await self._carrier if self._carrier else self._container
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
        handle = await launching if launching else None
        if handle is None or script != self._context.first:  # the first one came with the sources
            put = container_files.put_files
            tmp = f"{self._project}.tmp"
            await daemon.ask(put, self._api, self._container, tmp, {".script": script.text}, self._owner)
        if handle is None:
            handle = await self._launch(script.number)
        await announce(handle)
        await asyncio.to_thread(self._outputs[script.number].begin)
        if self._carrier and self._removing is None:  # only now, since the daemon had enough to do
            gone = self._carrier.result()
            self._removing = asyncio.create_task(daemon.ask(carrier.remove_carrier, self._api, gone))
        self._is_running = True
        return handle

    async def _launch(self, number: int) -> Handle:
        """Start the container; its script begins when it is told to."""
        handle = {
            "number": number,
            "container": self._container,
            "skip": dict(self._totals),
            "owner": list(self._owner),
        }
        output = self._output(handle)
        await daemon.ask(output.attach)
        try:
            await daemon.ask(self._api.start, self._container)
        except JobError:
            output.close()
            raise
        output.follow()
        return handle

    def _output(self, handle: Handle) -> ContainerOutput:
        """Where a run's output goes; `logs` and `wait` live on what its thread tells."""
        number = handle["number"]
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[dict[str, Any] | None] = loop.create_future()
        path = self._context.folder / f"output-{number}"
        file = OutputFile(path, ended.done)

        def end(state: dict[str, Any] | None) -> None:
            if not ended.done():
                ended.set_result(state)
            file.wake.set()

        def tell(call: Callable[..., object], *args: Any) -> None:
            with contextlib.suppress(
                RuntimeError
            ):  # the loop is closed: the runner has gone, the job lives on
                loop.call_soon_threadsafe(call, *args)

        output = ContainerOutput(
            self._api,
            handle["container"],
            path,
            handle["skip"],
            on_data=lambda: tell(file.wake.set),
            on_end=lambda state: tell(end, state),
        )
        self._outputs[number], self._files[number], self._ends[number] = output, file, ended
        return output

    def logs(self, handle: Handle) -> AsyncIterator[bytes]:
        return self._files[handle["number"]].follow()

    async def wait(self, handle: Handle) -> Exit:
        number = handle["number"]
        if self._context.gpus.uuids and (lost := await self._lost_gpu(handle)):
            return Exit(1, is_system_failure=True, note=lost)
        state = await asyncio.shield(self._ends[number])
        self._is_running = False
        self._totals = self._outputs[number].totals
        if state is None:
            return Exit(1, is_system_failure=True, note="the job's container was removed by somebody else")
        if problem := state.get(LOST):
            return Exit(1, is_system_failure=True, note=f"the job's output can't be read: {problem}")
        code = int(state.get("ExitCode", 1))
        return Exit(
            code,
            is_system_failure=bool(state.get("Error")) and code != 0,
            note=state.get("Error", ""),
            facts=container_usage.facts_of(state, self._context.limits),
        )

    async def _lost_gpu(self, handle: Handle) -> str:
        """Waits for the run's end, or ends it where the container can't reach its GPUs any more: then why."""
        ended = self._ends[handle["number"]]
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
        await asyncio.shield(self._ends[handle["number"]])

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
        self._totals = dict(handle["skip"])
        state = await self._inspect()
        output = self._output(handle)
        if not await self._has_begun(output, state):
            with contextlib.suppress(JobError, NotFound):
                await daemon.ask(self._api.kill, self._container)
            return False
        output.follow()
        self._is_running = True
        return True

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

    async def _has_begun(self, output: ContainerOutput, state: dict[str, Any]) -> bool:
        """Whether the word to begin was given. The first thing that any script does is to print."""
        deadline = asyncio.get_running_loop().time() + _FIRST_OUTPUT_S
        while not await daemon.ask(output.has_any):
            if not state.get("Running"):
                return bool(state.get("ExitCode") != shell.NEVER_BEGAN)
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(0.1)
            state = await self._inspect()
        return True

    async def _inspect(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = (await daemon.ask(self._api.inspect_container, self._container))["State"]
        except NotFound as error:
            raise SystemFailure("the job's container was removed by somebody else") from error
        return state

    # ---- cleanup

    async def cleanup(self) -> None:
        under_way = [task for task in (self._launching, self._carrier, self._removing) if task]
        await asyncio.gather(*under_way, return_exceptions=True)
        for output in self._outputs.values():
            output.close()
        with contextlib.suppress(JobError, DockerException):
            await daemon.ask(self._remove_everything)
        await asyncio.to_thread(remove_tree, self._stage)

    def _remove_everything(self) -> None:
        daemon.remove_labelled(self._api, f"{containers.LABEL_JOB}={self._context.key}")
        self._networking.pool.release(self._context.key)
