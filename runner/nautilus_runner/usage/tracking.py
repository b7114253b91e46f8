"""What a Nautilus run used, as MLflow's own system metrics, and why it ended, as tags of the run.

Over MLflow's REST interface with the job's own token, as MLflow's library in the job would do it. Trouble here is
never the job's: a tracking server that does not answer is given up after some tries.
Source: mlflow/system_metrics/ (names and units), REST `POST /api/2.0/mlflow/runs/log-batch`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from nautilus_runner.causes import Cause
from nautilus_runner.errors import ConfigurationError, UnavailableError
from nautilus_runner.limits import Limits
from nautilus_runner.settings import RunnerSettings
from nautilus_runner.transport import Transport
from nautilus_runner.usage.reading import Usage
from nautilus_runner.variables import Variables

log = logging.getLogger(__name__)

_PATH = "/api/2.0/mlflow/runs/log-batch"
_TRIES = 3
_PATIENCE_S = 2.0
_MIB_TO_MB = (1 << 20) / 1e6
CAUSE, REASON = "nautilus.end.cause", "nautilus.end.reason"


class RunLog:
    """One run at one tracking server."""

    def __init__(self, url: str, ca_file: str, token: str, run_id: str) -> None:
        self._transport = Transport(url, ca_file)
        self._headers = {"Authorization": f"Bearer {token}"}
        self._run_id = run_id
        self._failures = 0
        self._step = 0

    async def log(self, usage: Usage, limits: Limits) -> None:
        """One sample of each value."""
        now_ms = int(time.time() * 1000)
        found = [
            {"key": key, "value": value, "timestamp": now_ms, "step": self._step}
            for key, value in system_metrics(usage, limits).items()
        ]
        self._step += 1
        if found:
            await self._send({"metrics": found})

    async def end(self, cause: Cause, reason: str, usage: Usage) -> None:
        """Why the job ended, and the highest of what it used."""
        highest = {
            f"nautilus.peak.{name}": f"{value.highest:.0f}"
            for name, value in usage.values.items()
            if not name.startswith("network")
        }
        tags = {CAUSE: cause.value, REASON: reason, **highest}
        await self._send({"tags": [{"key": key, "value": value} for key, value in tags.items()]})

    async def close(self) -> None:
        await self._transport.close()

    async def _send(self, document: dict[str, Any]) -> None:
        if self._failures >= _TRIES:
            return
        body = {"run_id": self._run_id, **document}
        try:
            async with asyncio.timeout(_PATIENCE_S):
                answer = await self._transport.request_json("POST", _PATH, body, headers=self._headers)
        except (UnavailableError, TimeoutError) as error:
            self._failures += 1
            log.debug("usage is not told to MLflow: %s", error)
            return
        if answer.status == 200:
            self._failures = 0
        else:
            self._failures += 1 if answer.status >= 500 else _TRIES
            log.debug("usage is not told to MLflow: %d %s", answer.status, answer.message)


def run_log_for(variables: Variables, settings: RunnerSettings) -> RunLog | None:
    """None where the job is no run of a tracking server that we trust."""
    run_id, token = variables.get("MLFLOW_RUN_ID"), variables.get("MLFLOW_TRACKING_TOKEN")
    url = variables.get("MLFLOW_TRACKING_URI").rstrip("/")
    if not (run_id and token and url and is_trusted(url, settings)):
        return None
    try:
        return RunLog(settings.nautilus_url or url, settings.tls_ca_file, token, run_id)
    except ConfigurationError:
        return None


def is_trusted(url: str, settings: RunnerSettings) -> bool:
    """A job's variables may name any address, also one that only this machine reaches: ours are those that the
    configuration names, and those of the server that gave the job."""
    named = {line.partition("=")[2].rstrip("/") for line in _lines(settings)}
    if settings.nautilus_url or url in named:
        return True
    try:
        hosts = {urlsplit(known).hostname for known in (settings.url, settings.clone_url) if known}
        return urlsplit(url).hostname in hosts - {None}
    except ValueError:  # no address at all, as `http://[`
        return False


def _lines(settings: RunnerSettings) -> Iterable[str]:
    given = (*settings.environment, *settings.default_environment)
    return (line for line in given if line.startswith("MLFLOW_TRACKING_URI="))


def system_metrics(usage: Usage, limits: Limits) -> dict[str, float]:
    """By MLflow's names; percentages are of what the job may have, else of the machine. Megabytes are of 10⁶."""
    now: Mapping[str, float] = {name: value.now for name, value in usage.values.items()}
    found: dict[str, float] = {}
    if "cpu_percent" in now:
        found["cpu_utilization_percentage"] = now["cpu_percent"] / (limits.cpus or os.cpu_count() or 1)
    if "memory_mib" in now:
        found["system_memory_usage_megabytes"] = now["memory_mib"] * _MIB_TO_MB
        total = limits.memory_mib or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 20)
        found["system_memory_usage_percentage"] = 100 * now["memory_mib"] / total
    if "disk_mib" in now:
        found["disk_usage_megabytes"] = now["disk_mib"] * _MIB_TO_MB
        if limits.disk_mib:
            found["disk_usage_percentage"] = 100 * now["disk_mib"] / limits.disk_mib
            found["disk_available_megabytes"] = max(0.0, limits.disk_mib - now["disk_mib"]) * _MIB_TO_MB
    for ours, theirs in (("received", "receive"), ("sent", "transmit")):
        if (name := f"network_{ours}_mib") in now:
            found[f"network_{theirs}_megabytes"] = now[name] * _MIB_TO_MB
    for number, total_mib in usage.gpu_memory_mib.items():
        used = now[f"gpu_{number}_memory_mib"]
        found[f"gpu_{number}_memory_usage_megabytes"] = used * _MIB_TO_MB
        found[f"gpu_{number}_memory_usage_percentage"] = 100 * used / total_mib if total_mib else 0.0
        if (name := f"gpu_{number}_percent") in now:
            found[f"gpu_{number}_utilization_percentage"] = now[name]
    return {f"system/{name}": round(value, 2) for name, value in found.items()}
