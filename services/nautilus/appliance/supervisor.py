"""What the supervisor says of the programs, and asking it to restart or stop them (its XML-RPC socket)."""

from __future__ import annotations

import signal
import xmlrpc.client
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nautilus.appliance.errors import NotRunning
from nautilus.appliance.layout import Layout


@dataclass(frozen=True)
class Program:
    """One program of supervisord.conf; several processes of one name (git) are one program."""

    name: str
    state: str
    """Supervisor's word in lower case: running, starting, backoff, fatal, stopping, stopped, exited."""
    pids: tuple[int, ...]
    started_at: float
    """Unix seconds; 0 when it does not run."""
    detail: str

    is_off: bool = False
    """Never started, since it was switched off or is not installed."""


class Supervisor:
    """The running supervisor of an appliance. Every method raises NotRunning when there is none."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def programs(self) -> list[Program]:
        """All programs in start order."""
        by_name: dict[str, list[dict[str, Any]]] = {}
        for info in self._call("getAllProcessInfo"):
            by_name.setdefault(str(info["group"]), []).append(info)
        return [_program(name, infos) for name, infos in by_name.items()]

    def signal(self, name: str, number: signal.Signals) -> None:
        self._call("signalProcessGroup", name, str(int(number)))

    def stop(self, name: str) -> None:
        self._call("stopProcessGroup", name, True)

    def start(self, name: str) -> None:
        self._call("startProcessGroup", name, False)

    def restart(self, name: str) -> None:
        """Stops (as supervisord.conf says) and starts one program."""
        self.stop(name)
        self.start(name)

    def shutdown(self) -> None:
        """Asks supervisord to stop everything in reverse start order and to end; returns at once."""
        self._call("shutdown")

    def _call(self, method: str, *arguments: Any) -> Any:
        from supervisor.xmlrpc import SupervisorTransport

        url = f"unix://{self._layout.supervisor_socket}"
        proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=SupervisorTransport(None, None, url))
        try:
            return getattr(proxy.supervisor, method)(*arguments)
        except OSError as error:
            raise NotRunning(
                f"no appliance runs on {self._layout.home}: start it with `nautilus up`"
            ) from error
        except xmlrpc.client.Fault as fault:
            raise NotRunning(f"the supervisor refused {method}{arguments}: {fault.faultString}") from fault


def _program(name: str, infos: Iterable[dict[str, Any]]) -> Program:
    rows = list(infos)
    states = [str(row["statename"]).lower() for row in rows]
    worst = next((state for state in states if state not in ("running",)), "running")
    pids = tuple(int(row["pid"]) for row in rows if row["pid"])
    started = min((float(row["start"]) for row in rows if row["pid"]), default=0.0)
    trouble = next((str(row["spawnerr"]) for row in rows if row["spawnerr"]), "")
    is_off = worst == "stopped" and not any(row["start"] for row in rows)
    return Program(name, worst, pids, started, trouble, is_off)
