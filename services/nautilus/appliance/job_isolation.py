"""How much of the network the bundled runner's jobs get, and whether this machine can keep them to it."""

from __future__ import annotations

import shutil

from nautilus.appliance.addresses import host_of, port_of
from nautilus.appliance.errors import SettingError
from nautilus.appliance.plan import Plan

_PROGRAMS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def refuse_without_sandbox(plan: Plan) -> None:
    """Each job would be refused. Raises SettingError."""
    if problem := sandbox_problem(plan.executor, plan.job_network_mode):
        raise SettingError(problem)


def sandbox_problem(executor: str, mode: str) -> str:
    """Why jobs that are processes can't be kept to a network mode here; "" where they can, or need not be."""
    if mode == "full" or executor != "process" or shutil.which("bwrap", path=_PROGRAMS):
        return ""
    return (
        f"NAUTILUS_JOB_NETWORK_MODE={mode}: jobs are processes here, and only bubblewrap keeps these to it: "
        "`apt-get install bubblewrap`, or run them in containers (NAUTILUS_EXECUTOR=docker)"
    )


def reachable(plan: Plan) -> list[str]:
    """HOST:PORT that jobs reach besides what the runner knows of the appliance. Pure.

    To processes the server's variables name the appliance by its external addresses; jobs in containers are told
    others, which the runner knows by their environment.
    """
    urls = [plan.external_url, plan.gitlab_external_url] if plan.executor == "process" else []
    urls += [plan.registry_external_url] if urls and plan.has_registry else []
    found = [f"{host_of(url)}:{port_of(url)}" for url in urls if ":" not in host_of(url)]
    return list(dict.fromkeys([*found, *plan.job_reachable]))
