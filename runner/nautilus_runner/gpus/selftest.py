"""A small job for one GPU, by the executor that jobs use: is the device there, is it the right one, does it work?

Nothing is pulled. With the docker executor it runs in the image that jobs get by default, else in the one that the
runner lives in; where neither is here, that executor's test is passed over, and says so.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nautilus_runner.errors import JobError
from nautilus_runner.executors.factory import Factory
from nautilus_runner.gpu import Allotment, Gpu
from nautilus_runner.settings import RunnerSettings, Settings
from nautilus_runner.trials import NothingToTry, Trials

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
        self._trials = Trials(executors, data_dir)

    def has(self, key: str) -> bool:
        return self._trials.has(key)

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

        commands = script_for(gpu, is_container=runner.executor == "docker")
        try:
            ended, output = await self._trials.run(runner, commands, Allotment((gpu.uuid,)))
        except NothingToTry as error:
            return result(True, f"not tried: {error}", is_tried=False)
        except (JobError, OSError) as error:
            return result(False, str(error))
        said = [line.partition(_MARK)[2].strip() for line in output.splitlines() if line.startswith(_MARK)]
        if ended.code == 0:
            return result(True, "; ".join(said))
        return result(False, "; ".join(said) or f"ended with {ended.code}: {output.strip()[-300:]}")


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
