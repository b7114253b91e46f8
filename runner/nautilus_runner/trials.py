"""A few lines of shell, run as a job's script is, by the executor that jobs use; no server is asked.

Nothing is pulled. With the docker executor it runs in the image that jobs get by default, else in the one that the
runner lives in.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from nautilus_runner.errors import RunnerError, SystemFailure
from nautilus_runner.executors import containers
from nautilus_runner.executors.base import Context, Executor, Exit, Handle, Script
from nautilus_runner.executors.factory import Factory
from nautilus_runner.gpu import Allotment
from nautilus_runner.payload import Job
from nautilus_runner.settings import RunnerSettings, Settings
from nautilus_runner.shell import job_script
from nautilus_runner.variables import job_variables

_PATIENCE_S = 120.0
_OUTPUT_LIMIT_BYTES = 1 << 16


class NothingToTry(RunnerError):
    """No image is on this machine to run anything in."""


def ways(settings: Settings) -> list[RunnerSettings]:
    """One registration for each way in which this runner runs jobs."""
    real = [runner for runner in settings.runners if runner.executor != "dummy"]
    return list({(r.executor, r.docker.host, r.docker.runtime, r.process.user): r for r in real}.values())


class Trials:
    """Of one process. What one leaves when the process is killed is removed like any orphaned job's."""

    def __init__(self, executors: Factory, data_dir: Path) -> None:
        self._executors = executors
        self._folder = data_dir / "selftest"
        self._prefix = f"selftest-{secrets.token_hex(4)}"

    def has(self, key: str) -> bool:
        """Whether `key` names a trial of this process."""
        return key.startswith(self._prefix)

    async def run(
        self, runner: RunnerSettings, commands: Sequence[str], gpus: Allotment | None = None
    ) -> tuple[Exit, str]:
        """The script's end and output. Raises NothingToTry, JobError where the executor fails, OSError."""
        if runner.executor == "docker":
            runner = await asyncio.to_thread(self._with_image, runner)
        key = f"{self._prefix}-{secrets.token_hex(4)}"
        folder = self._folder / key
        folder.mkdir(mode=0o700, parents=True)
        context = Context(key, _job(), runner, folder, say=lambda line: None, gpus=gpus or Allotment())
        context.accepted.set()
        executor: Executor | None = None
        try:
            async with asyncio.timeout(_PATIENCE_S):
                executor = await asyncio.to_thread(self._executors.make, context)
                return await _play(executor, context, commands)
        except TimeoutError as error:
            raise SystemFailure(f"took longer than {_PATIENCE_S:.0f} s") from error
        finally:
            if executor is not None:
                await asyncio.shield(executor.cleanup())
            await asyncio.to_thread(shutil.rmtree, folder, True)

    def _with_image(self, runner: RunnerSettings) -> RunnerSettings:
        """The same with an image that is here. Blocking; raises NothingToTry, SystemFailure."""
        import docker

        api = self._executors.daemon(runner.docker.host)[0]
        own = containers.own_container_id(containers.read_mountinfo())
        found = ""
        with contextlib.suppress(docker.errors.NotFound):
            found = str(api.inspect_container(own)["Image"]) if own else ""
        with contextlib.suppress(docker.errors.NotFound):
            api.inspect_image(runner.docker.image)
            found = runner.docker.image
        if not found:
            raise NothingToTry(f"the image {runner.docker.image} is not here yet")
        own_settings = runner.docker.model_copy(update={"image": found, "pull_policy": ("never",)})
        return runner.model_copy(update={"docker": own_settings})


async def _play(executor: Executor, context: Context, commands: Sequence[str]) -> tuple[Exit, str]:
    """All of a job's steps, as the runner takes them."""
    place = executor.place()
    context.variables = job_variables(
        context.job,
        builds_dir=place.builds_dir,
        project_dir=place.project_dir,
        slot=0,
        is_shared=place.is_shared,
        environment=context.settings.environment,
    )
    environment = {**context.variables.environment(), **context.gpus.environment()}
    text = job_script(commands, project_dir=place.project_dir)
    script = Script(0, "selftest", tuple(commands), text, environment, _PATIENCE_S, _OUTPUT_LIMIT_BYTES)
    context.first = script
    await asyncio.to_thread(executor.stage)
    await executor.prepare()
    await executor.adopt()
    handle = await executor.start(script, _announce)
    pieces = [piece async for piece in executor.logs(handle)]
    ended = await executor.wait(handle)
    if ended.is_system_failure:
        raise SystemFailure(ended.note)
    return ended, b"".join(pieces).decode(errors="replace")


async def _announce(handle: Handle) -> None:
    """Nothing to remember: a trial that is interrupted is made anew."""


def _job() -> Job:
    info = {"id": 0, "name": "selftest", "project_full_path": "nautilus/selftest"}
    return Job.model_validate({"id": 0, "token": "", "job_info": info})
