"""A small job for one GPU, by the executor that jobs use: is the device there, is it the right one, does it work?

Nothing is pulled. With the docker executor it runs in the image that jobs get by default, else in the one that the
runner lives in; where neither is here, that executor's test is passed over, and says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nautilus_runner.errors import JobError
from nautilus_runner.executors import containers
from nautilus_runner.executors.base import Context, Executor, Exit, Handle, Script
from nautilus_runner.executors.factory import Factory
from nautilus_runner.gpu import Allotment, Gpu
from nautilus_runner.payload import Job
from nautilus_runner.settings import RunnerSettings, Settings
from nautilus_runner.shell import job_script
from nautilus_runner.variables import job_variables

_PATIENCE_S = 120.0
_OUTPUT_LIMIT_BYTES = 1 << 16
_CHECK = Path(__file__).with_name("cuda_check.py")
_MARK = "NAUTILUS-SELFTEST"


@dataclass(frozen=True, slots=True)
class Result:
    """`detail` says what was tried, or why it failed; `is_tried` False: there was nothing to try it with."""

    uuid: str
    executor: str
    is_ok: bool
    detail: str
    duration_s: float
    is_tried: bool = True

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class SelfTests:
    """Of one runner. `has` tells which jobs are self-tests of this process."""

    def __init__(self, executors: Factory, data_dir: Path) -> None:
        self._executors = executors
        self._folder = data_dir / "selftest"
        self._prefix = f"selftest-{secrets.token_hex(4)}"

    def has(self, key: str) -> bool:
        return key.startswith(self._prefix)

    async def test(self, settings: Settings, gpu: Gpu) -> list[Result]:
        """One for each way in which this runner runs jobs. Raises nothing that a broken GPU may lead to."""
        ways = {
            (r.executor, r.docker.host, r.process.user): r for r in settings.runners if r.executor != "dummy"
        }
        return [await self._by(runner, gpu) for runner in ways.values()]

    async def _by(self, runner: RunnerSettings, gpu: Gpu) -> Result:
        begun = time.monotonic()

        def result(is_ok: bool, detail: str, is_tried: bool = True) -> Result:
            return Result(
                gpu.uuid, runner.executor, is_ok, detail, round(time.monotonic() - begun, 3), is_tried
            )

        try:
            if runner.executor == "docker":
                image = await asyncio.to_thread(self._image, runner)
                if not image:
                    return result(True, f"not tried: {runner.docker.image} is not here yet", is_tried=False)
                own = runner.docker.model_copy(update={"image": image, "pull_policy": ("never",)})
                runner = runner.model_copy(update={"docker": own})
            async with asyncio.timeout(_PATIENCE_S):
                ended, output = await self._run(runner, gpu)
        except TimeoutError:
            return result(False, f"took longer than {_PATIENCE_S:.0f} s")
        except (JobError, OSError) as error:
            return result(False, str(error))
        said = [line.partition(_MARK)[2].strip() for line in output.splitlines() if line.startswith(_MARK)]
        if ended.code == 0:
            return result(True, "; ".join(said))
        return result(False, "; ".join(said) or f"ended with {ended.code}: {output.strip()[-300:]}")

    def _image(self, runner: RunnerSettings) -> str:
        """One that is on the machine; "" where none is. Blocking; raises SystemFailure."""
        import docker

        api, _ = self._executors.daemon(runner.docker.host)
        with contextlib.suppress(docker.errors.ImageNotFound):
            api.inspect_image(runner.docker.image)
            return runner.docker.image
        own = containers.own_container_id(containers.read_mountinfo())
        with contextlib.suppress(docker.errors.NotFound):
            return str(api.inspect_container(own)["Image"]) if own else ""
        return ""

    async def _run(self, runner: RunnerSettings, gpu: Gpu) -> tuple[Exit, str]:
        key = f"{self._prefix}-{secrets.token_hex(4)}"
        folder = self._folder / key
        folder.mkdir(mode=0o700, parents=True)
        context = Context(key, _job(), runner, folder, say=lambda line: None, gpus=Allotment((gpu.uuid,)))
        context.accepted.set()
        executor: Executor | None = None
        try:
            executor = await asyncio.to_thread(self._executors.make, context)
            return await _play(executor, context, gpu)
        finally:
            if executor is not None:
                await asyncio.shield(executor.cleanup())
            await asyncio.to_thread(shutil.rmtree, folder, True)


async def _play(executor: Executor, context: Context, gpu: Gpu) -> tuple[Exit, str]:
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
    commands = script_for(gpu, is_container=executor.name == "docker")
    text = job_script(commands, project_dir=place.project_dir, exports={}, notice="", is_debug=False)
    script = Script(0, "selftest", tuple(commands), text, environment, _PATIENCE_S, _OUTPUT_LIMIT_BYTES)
    context.first = script
    await asyncio.to_thread(executor.stage)
    await executor.prepare()
    await executor.adopt()
    handle = await executor.start(script, _announce)
    pieces = [piece async for piece in executor.logs(handle)]
    return await executor.wait(handle), b"".join(pieces).decode(errors="replace")


async def _announce(handle: Handle) -> None:
    """Nothing to remember: a self-test that is interrupted is made anew."""


def _job() -> Job:
    info = {"id": 0, "name": "selftest", "project_full_path": "nautilus/selftest"}
    return Job.model_validate({"id": 0, "token": "", "job_info": info})


def script_for(gpu: Gpu, *, is_container: bool) -> list[str]:
    """Shell lines, for any POSIX sh. A container sees exactly its GPU; a process sees all, and CUDA but its own."""
    seen = f"""\
if command -v nvidia-smi >/dev/null 2>&1; then
    found=$(nvidia-smi -L 2>&1) || {{ echo "{_MARK} nvidia-smi: $found"; exit 1; }}
    case "$found" in
        *"{gpu.uuid}"*) echo "{_MARK} nvidia-smi sees it" ;;
        *) echo "{_MARK} nvidia-smi does not see it"; exit 1 ;;
    esac
fi"""
    device = f"""\
found=no
for device in /dev/nvidia[0-9]* /dev/dxg; do
    if [ -e "$device" ]; then
        true <"$device" || {{ echo "{_MARK} $device can't be opened"; exit 1; }}
        found=yes
    fi
done
if [ "$found" = no ]; then echo "{_MARK} no device file of a GPU is there"; exit 1; fi"""
    memory = f"""\
if command -v python3 >/dev/null 2>&1; then
    found=$(python3 -I -S -B - {gpu.uuid} <<'NAUTILUS_CHECK'
{_CHECK.read_text()}NAUTILUS_CHECK
    ) || {{ echo "{_MARK} $found"; exit 1; }}
    echo "{_MARK} $found"
else
    echo "{_MARK} no python3 here: memory was not tried"
fi"""
    return [seen, *([device] if is_container else []), memory]
