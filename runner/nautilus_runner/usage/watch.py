"""A job's meter, connected: to its executor, its GPUs, its end, and the run at MLflow where the job is one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from nautilus_runner.executors.base import Executor
from nautilus_runner.usage.reading import Usage
from nautilus_runner.usage.tracking import RunLog
from nautilus_runner.work import Work


@asynccontextmanager
async def metered(work: Work, executor: Executor, run_log: RunLog | None) -> AsyncGenerator[None, None]:
    """While this lasts, the job's use is read and told, and its limits are kept."""

    async def tell(usage: Usage) -> None:
        if run_log is not None:
            await run_log.log(usage, work.context.limits)

    context = work.context
    async with context.meter.watching(
        executor,
        context.limits,
        work.control.fail,
        gpus=lambda: context.gpus.uuids,
        read_gpus=work.machine.gpus.read_use,
        on_look=tell,
    ):
        yield
