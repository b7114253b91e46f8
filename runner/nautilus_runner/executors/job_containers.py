"""The containers of one job, as the daemon is asked for them: the job's own, and its services."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from nautilus_runner import shell
from nautilus_runner.executors import container_usage, containers, daemon, image_rules, services
from nautilus_runner.executors.base import Context
from nautilus_runner.gpu import Allotment
from nautilus_runner.gpus import neighbours
from nautilus_runner.network.joining import Joined
from nautilus_runner.payload import Image

EnsureImage = Callable[..., Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class JobContainers:
    """`name` begins the names of all. `joined`: the network that they are on."""

    context: Context
    api: Any
    system_id: str
    name: str
    joined: Joined

    def labels(self, role: str) -> dict[str, str]:
        return containers.labels(self.system_id, self.context.key, role) | self.joined.labels()

    def volume(self) -> dict[str, Any]:
        """The mount of the job's own volume, which the daemon makes when it is first wanted."""
        return containers.volume_mount(self.name, self.labels("volume"))

    def create_job(self, image: str, project: str, more_mounts: list[dict[str, Any]]) -> str:
        """The id of the job's container. Blocking."""
        context, settings, first = self.context, self.context.settings.docker, self.context.first
        options = context.job.image.executor_opts.docker
        gpus = context.gpus.uuids
        environment = {**(first.environment if first else {}), **context.gpus.environment()}
        capabilities = containers.gpu_capabilities(settings, environment) if gpus else ()
        if gpus:
            environment["NVIDIA_DRIVER_CAPABILITIES"] = ",".join(capabilities)
        host = containers.host_config(
            settings,
            volume=self.name,
            volume_labels=self.labels("volume"),
            network=self.joined.network,
            gpus=gpus,
            gpu_capabilities=capabilities,
        )
        host["Mounts"] += [*more_mounts, *containers.folder_mounts(settings)]
        config = containers.container_config(
            image,
            host=host | self.joined.host_config() | container_usage.limit_config(settings, context.limits),
            environment=self.joined.environment(environment),
            labels=self.labels("job") | neighbours.labels(gpus),
            command=shell.container_command(f"{containers.BUILDS}/{project}.tmp/.script"),
            entrypoint=context.job.image.entrypoint,
            user=options.user,
            has_input=True,
        )
        made = self.api.create_container_from_config(config, self.name, options.platform or None)["Id"]
        if gpus:
            neighbours.give_way(self.api, self.system_id, made, gpus)
        return str(made)

    async def start_services(self, ensure_image: EnsureImage) -> None:
        """On the job's network; their names are known there. Returns when they are up, or had their time."""
        context = self.context
        started = [
            await self._start_service(number, service, ensure_image)
            for number, service in enumerate(context.job.services)
        ]
        if context.variables.is_true("CI_DEBUG_SERVICES"):
            for one in started:
                services.tell_output(self.api, one, context.say)
        wait_s = context.settings.docker.wait_for_services_s
        await services.wait_for(self.api, started, context.say, wait_s)

    async def _start_service(
        self, number: int, service: Image, ensure_image: EnsureImage
    ) -> services.Service:
        settings, variables = self.context.settings.docker, self.context.variables
        image, platform = variables.expand(service.name), service.executor_opts.docker.platform
        self.context.say(f"Starting service {image} ...")
        image_rules.check(image, settings.allowed_services, (), "allowed_services")
        wanted = image_rules.policies(service.pull_policy, settings)
        await ensure_image(image, wanted, platform, is_service=True)
        own = {v.key: v.value if v.raw else variables.expand(v.value) for v in service.variables}
        config = containers.container_config(
            image,
            host=containers.host_config(settings, network=self.joined.network)
            | self.joined.host_config()
            | container_usage.limit_config(settings, self.context.limits),
            environment=self.joined.environment(
                {**variables.environment(), **own, **Allotment().environment()}
            ),
            labels=self.labels("service"),
            command=service.command,
            entrypoint=service.entrypoint,
            user=service.executor_opts.docker.user,
            network=self.joined.network,
            aliases=containers.service_aliases(service.model_copy(update={"name": image})),
        )
        create = self.api.create_container_from_config
        made = await daemon.ask(create, config, f"{self.name}-service-{number}", platform or None)
        await daemon.ask(self.api.start, made["Id"])
        return services.Service(made["Id"], next(iter(service.aliases), image))
