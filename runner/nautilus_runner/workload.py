"""The jobs of this machine, from the journal's first line to the last: begun, found again, ended when asked."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from nautilus_runner.asking import identity_of
from nautilus_runner.claims import journaled
from nautilus_runner.client import Coordinator, Offer
from nautilus_runner.errors import ControlRefused, RunnerError
from nautilus_runner.job import JobRun
from nautilus_runner.journal import Entry, Journal, entry_key
from nautilus_runner.payload import Job
from nautilus_runner.settings import RunnerSettings
from nautilus_runner.work import Machine

log = logging.getLogger(__name__)


class Workload:
    """`on_change` hears of every change; `on_left` of each client that one job fewer uses."""

    def __init__(
        self,
        machine: Machine,
        journal: Journal,
        on_change: Callable[[], None],
        on_left: Callable[[Coordinator], Awaitable[None]],
    ) -> None:
        self._machine = machine
        self._journal = journal
        self._on_change = on_change
        self._on_left = on_left
        self._jobs: dict[str, tuple[JobRun, asyncio.Task[None]]] = {}
        self._idle_since = time.monotonic()

    @property
    def jobs(self) -> list[JobRun]:
        return [run for run, _ in self._jobs.values()]

    @property
    def idle_s(self) -> float:
        """How long there has been no job; 0 while there is one."""
        return 0.0 if self._jobs else time.monotonic() - self._idle_since

    def is_using(self, client: Coordinator) -> bool:
        return any(run.client is client for run in self.jobs)

    # ---- beginning

    async def begin(self, offer: Offer, settings: RunnerSettings, client: Coordinator, slot: int) -> bool:
        """Journal a job and set it going; True: the slot is its. Raises DiskFull where it can't be journaled."""
        job = offer.job
        assert job is not None
        key = entry_key(settings.url, job.id)
        if key in self._jobs:
            log.warning("job %s was offered twice; the one that runs goes on", job.id)
            return False
        entry = await journaled(self._journal, key, offer, settings)
        log.info("job %s (%s of %s) taken", job.id, job.job_info.name, job.job_info.project_full_path)
        self._machine.slots.use(slot)
        self._run(entry, job, settings, client, slot)
        return True

    def take_up(self) -> None:
        """Go on with everything that the journal knows."""
        for entry in self._journal.entries():
            try:
                self._resume(entry)
            except OSError as error:
                log.error("journal: job %s can't be taken up now: %s", entry.key, error)
            except (RunnerError, ValueError, KeyError) as error:
                log.warning("journal: job %s can't be taken up: %s", entry.key, error)
                entry.forget()

    def _resume(self, entry: Entry) -> None:
        job = Job.model_validate(entry.state["payload"])
        settings = RunnerSettings.model_validate(entry.state["settings"])
        client = Coordinator(settings, self._machine.system_id)
        log.info("job %s: taken up again (%s)", job.id, entry.state.get("phase", "prepare"))
        self._run(entry, job, settings, client, self._machine.slots.occupy(identity_of(settings)))

    def _run(self, entry: Entry, job: Job, settings: RunnerSettings, client: Coordinator, slot: int) -> None:
        run = JobRun(entry, job, settings, client, self._machine, slot, self._on_change)
        task = asyncio.create_task(self._see_through(entry.key, run, slot))
        self._jobs[entry.key] = (run, task)
        self._on_change()

    async def _see_through(self, key: str, run: JobRun, slot: int) -> None:
        freeing = asyncio.create_task(self._free(run, slot))
        try:
            await run.run()
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("job %s: left in the journal for the next start", run.job.id)
        finally:
            run.is_off_slot.set()
            await asyncio.shield(freeing)
            self._jobs.pop(key, None)
            self._idle_since = time.monotonic()
            self._on_change()
            await asyncio.shield(self._on_left(run.client))

    async def _free(self, run: JobRun, slot: int) -> None:
        """The slot is free once the job only has its result to deliver."""
        await run.is_off_slot.wait()
        self._machine.slots.give_back(slot)
        self._on_change()

    # ---- ending

    def lose_gpu(self, uuid: str, reason: str) -> None:
        for run in self.jobs:
            run.lose_gpu(uuid, reason)
        self._on_change()

    async def let_go(self) -> None:
        """All jobs run on, and the journal knows them."""
        tasks = [task for _, task in self._jobs.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def end(self, grace_s: float) -> None:
        """End all jobs; returns when they are reported, or the time is over."""
        tasks = []
        for run, task in self._jobs.values():
            run.control.interrupt()
            tasks.append(task)
        if tasks:
            await asyncio.wait(tasks, timeout=grace_s)

    async def hand_back(self, grace_s: float, *, is_preempting: bool) -> None:
        """Give jobs that have not begun back to their servers, or all; returns as `end`."""
        given = []
        for run, task in self._jobs.values():
            if run.state == "preparing" or is_preempting:
                run.control.preempt("this machine ends its work")
                given.append(task)
        if given:
            await asyncio.wait(given, timeout=grace_s)

    def preempt(self, job_id: int) -> None:
        """Ask a job to end and give it back, to be run again. Raises ControlRefused."""
        found = [run for run in self.jobs if run.job.id == job_id]
        if not found:
            raise ControlRefused(
                f"job {job_id} is not on this runner; `nautilus-runner status` lists those that are"
            )
        for run in found:
            if run.state not in ("preparing", "running"):
                raise ControlRefused(f"job {job_id} is over: it is {run.state}")
            run.control.preempt("its place is needed")

    def preempt_all(self) -> None:
        """All jobs that are not over."""
        for run in self.jobs:
            if run.state in ("preparing", "running"):
                run.control.preempt("this machine is drained")
