"""Whether a process job is in a sandbox, and what network it has there."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from nautilus_runner.errors import JobMisconfigured
from nautilus_runner.executors import bubblewrap, processes
from nautilus_runner.executors.base import Context
from nautilus_runner.executors.bubblewrap import Sandboxes, View
from nautilus_runner.executors.processes import Account
from nautilus_runner.network import doors, modes
from nautilus_runner.network.addresses import server_addresses
from nautilus_runner.network.doors import Door
from nautilus_runner.network.modes import NetworkMode
from nautilus_runner.settings import RunnerSettings

_HOSTS = Path("/etc/hosts")
_SWITCHED_OFF = "switched off (runners.process.sandbox)"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """`program`: bubblewrap's, "" where the job runs without. `opened`: what it reaches in network mode internal."""

    program: str = ""
    network: NetworkMode = NetworkMode.FULL
    readable: tuple[str, ...] = ()
    opened: tuple[Door, ...] = ()

    @property
    def is_on(self) -> bool:
        return bool(self.program)

    def arguments(self, context: Context, home: Path, project: Path) -> list[str]:
        """What precedes the command of a job's script."""
        if not self.program:
            return []
        shared = tuple((str(folder.folder), folder.seen_at) for folder in context.shared)
        devices = bubblewrap.gpu_devices(context.gpus.uuids)
        view = View(home, project, self.network, self.readable, shared, devices)
        return bubblewrap.arguments(self.program, view)

    def passage(self, context: Context, account: Account) -> dict[str, str] | None:
        """What the script's warden needs to lead the sandbox to the server; None where it does not."""
        if self.network is not NetworkMode.INTERNAL:
            return None
        present = ""
        with contextlib.suppress(OSError):
            present = _HOSTS.read_text(errors="replace")
        hosts = doors.hosts_file(present, self.opened)
        marker = f"{processes.MARKER}={context.key}"
        return doors.passage(self.opened, hosts, account.uid, account.gid, marker)


def choose(context: Context, sandboxes: Sandboxes, account: Account) -> Sandbox:
    """As the settings and the job's network mode want it; the log says it. Blocking. Raises JobMisconfigured."""
    process = context.settings.process
    mode = modes.asked_for(context.variables.get(modes.VARIABLE), NetworkMode(context.settings.network_mode))
    verdict = bubblewrap.Verdict(reason=_SWITCHED_OFF)
    if process.sandbox != "off":
        verdict = sandboxes.verdict(account)
    if not verdict.program:
        _refuse_or_warn(context, account, mode, verdict.reason)
        return Sandbox()
    opened = _opened(context) if mode is NetworkMode.INTERNAL else ()
    network = {NetworkMode.NONE: "no network", NetworkMode.FULL: "the machine's network"}.get(
        mode, f"of the network only {', '.join(str(door.to) for door in opened)}"
    )
    context.say(
        f"Running as user {account.name}, isolated by bubblewrap: a read-only system, its own files, processes and "
        f"/tmp, {network}."
    )
    wanted = bubblewrap.readable_for(process.path, process.readable)
    readable = tuple(folder for folder in wanted if processes.can_reach(Path(folder), account))
    return Sandbox(verdict.program, mode, readable, opened)


def problem(settings: RunnerSettings, sandboxes: Sandboxes) -> str:
    """Why each job of a registration would be refused, for want of a sandbox; "" where there is one, or no need.

    Blocking at the first use. Raises JobMisconfigured.
    """
    process = settings.process
    if settings.network_mode == "full" and process.sandbox != "require":
        return ""
    reason = _SWITCHED_OFF
    if process.sandbox != "off":
        reason = sandboxes.verdict(processes.account_of(process.user)).reason
    needed = (
        "sandbox = require" if process.sandbox == "require" else f"network_mode = {settings.network_mode}"
    )
    return (
        f"no job is run: {needed} needs a sandbox for processes, and there is none: {reason}"
        if reason
        else ""
    )


def _opened(context: Context) -> tuple[Door, ...]:
    found = doors.doors(server_addresses(context.settings, has_loopback=True))
    if not found:
        raise JobMisconfigured(
            "network mode internal: this runner knows the server by an IPv6 address only, to which no job is led: "
            "name it by a host name, or in the runner's `reachable`"
        )
    return found


def _refuse_or_warn(context: Context, account: Account, mode: NetworkMode, reason: str) -> None:
    if context.settings.process.sandbox == "require":
        raise JobMisconfigured(f"this runner runs no job without a sandbox, and there is none: {reason}")
    if mode is not NetworkMode.FULL:
        raise JobMisconfigured(
            f"network mode {mode} needs a sandbox for processes, and there is none: {reason}"
        )
    if account.uid is None:
        context.say(f"Running as user {account.name}: jobs are not isolated from this account.")
    else:
        context.say(f"Running as user {account.name}, apart from the runner's own account.")
    context.say(f"Jobs are not isolated from each other: {reason}.")
