"""Whether a process job is in a sandbox, and what network it has there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nautilus_runner.errors import JobMisconfigured
from nautilus_runner.executors import bubblewrap, processes
from nautilus_runner.executors.base import Context
from nautilus_runner.executors.bubblewrap import Sandboxes, View
from nautilus_runner.executors.processes import Account
from nautilus_runner.network import modes
from nautilus_runner.network.modes import NetworkMode


@dataclass(frozen=True, slots=True)
class Sandbox:
    """`program`: bubblewrap's, "" where the job runs without."""

    program: str = ""
    has_network: bool = True
    readable: tuple[str, ...] = ()

    @property
    def is_on(self) -> bool:
        return bool(self.program)

    def arguments(self, context: Context, home: Path, project: Path) -> list[str]:
        """What precedes the command of a job's script."""
        if not self.program:
            return []
        shared = tuple((str(folder.folder), folder.seen_at) for folder in context.shared)
        devices = bubblewrap.gpu_devices(context.gpus.uuids)
        view = View(home, project, self.has_network, self.readable, shared, devices)
        return bubblewrap.arguments(self.program, view)


def choose(context: Context, sandboxes: Sandboxes, account: Account) -> Sandbox:
    """As the settings and the job's network mode want it; the log says it. Blocking. Raises JobMisconfigured."""
    process = context.settings.process
    mode = modes.asked_for(context.variables.get(modes.VARIABLE), NetworkMode(context.settings.network_mode))
    if mode is NetworkMode.INTERNAL:
        raise JobMisconfigured(
            "network mode internal needs containers: jobs of this runner are processes, which have the machine's "
            f"network or none ({modes.VARIABLE}=none)"
        )
    verdict = bubblewrap.Verdict(reason="switched off (runners.process.sandbox)")
    if process.sandbox != "off":
        verdict = sandboxes.verdict(account)
    if not verdict.program:
        _refuse_or_warn(context, account, mode, verdict.reason)
        return Sandbox()
    network = "no network" if mode is NetworkMode.NONE else "the machine's network"
    context.say(
        f"Running as user {account.name}, isolated by bubblewrap: a read-only system, its own files, processes and "
        f"/tmp, {network}."
    )
    wanted = bubblewrap.readable_for(process.path, process.readable)
    readable = tuple(folder for folder in wanted if processes.can_reach(Path(folder), account))
    return Sandbox(verdict.program, mode is NetworkMode.FULL, readable)


def _refuse_or_warn(context: Context, account: Account, mode: NetworkMode, reason: str) -> None:
    if context.settings.process.sandbox == "require":
        raise JobMisconfigured(f"this runner runs no job without a sandbox, and there is none: {reason}")
    if mode is NetworkMode.NONE:
        raise JobMisconfigured(
            f"network mode none needs a sandbox for processes, and there is none: {reason}"
        )
    if account.uid is None:
        context.say(f"Running as user {account.name}: jobs are not isolated from this account.")
    else:
        context.say(f"Running as user {account.name}, apart from the runner's own account.")
    context.say(f"Jobs are not isolated from each other: {reason}.")
