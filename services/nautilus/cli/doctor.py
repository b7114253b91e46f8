"""nautilus doctor: looks at what commonly breaks, and says how to mend it."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

import typer

from nautilus.appliance import folders, postgres
from nautilus.appliance.accounts import can_reach
from nautilus.appliance.container import SOCKET
from nautilus.appliance.errors import ApplianceError
from nautilus.appliance.executor import choose_executor
from nautilus.appliance.folders import LEAST_FREE_MIB
from nautilus.appliance.gateway import nginx_path
from nautilus.appliance.plan import Plan, read_plan, setting_of
from nautilus.appliance.ports import can_bind
from nautilus.appliance.settings import ApplianceSettings
from nautilus.cli.doctor_edition import check_edition
from nautilus.cli.findings import Finding

_ENOUGH_FREE_MIB = 5 * 1024
_MOST_CLOCK_SKEW_S = 5.0


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Check ports, disk, permissions, programs, Docker, the clock, and each address from where it is used.

    Exit code 1: something is wrong.
    """
    from nautilus.cli.doctor_addresses import check_addresses
    from nautilus.cli.output import emit

    settings = ApplianceSettings.from_environment()
    findings = [check(settings) for check in CHECKS]
    findings += check_addresses(settings)
    emit([asdict(f) for f in findings], as_json, lambda: _show(findings))
    if any(f.state == "error" for f in findings):
        raise SystemExit(1)


def check_python(settings: ApplianceSettings) -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "ok", f"{version} in {sys.prefix}")


def check_home(settings: ApplianceSettings) -> Finding:
    home = settings.home
    nearest = next(folder for folder in (home, *home.parents) if folder.exists())
    if not os.access(nearest, os.W_OK):
        return Finding(
            "data folder",
            "error",
            f"{nearest} cannot be written",
            "chown it to this user, or set NAUTILUS_HOME",
        )
    if os.geteuid() == 0 and home.exists() and not can_reach(home):
        mend = "set NAUTILUS_HOME to a folder that others may enter (services run as the user nautilus)"
        return Finding("data folder", "error", f"{home} lies where only root may enter", mend)
    secrets = settings.layout.secrets
    if secrets.exists() and secrets.stat().st_mode & 0o077:
        return Finding("data folder", "error", f"{secrets} is open to others", f"chmod 700 {secrets}")
    return Finding("data folder", "ok", str(home))


def check_disk(settings: ApplianceSettings) -> Finding:
    nearest = next(folder for folder in (settings.home, *settings.home.parents) if folder.exists())
    free_mib = shutil.disk_usage(nearest).free // 2**20
    state = "error" if free_mib < LEAST_FREE_MIB else "warning" if free_mib < _ENOUGH_FREE_MIB else "ok"
    return Finding(
        "disk", state, f"{free_mib / 1024:.1f} GiB free", "" if state == "ok" else "free some space"
    )


def check_ports(settings: ApplianceSettings) -> Finding:
    plan = read_plan(settings.layout.appliance_file)
    if plan is None:
        return Finding("ports", "ok", "none chosen yet: free ones are taken at the first start")
    text = ", ".join(f"{name} {port}" for name, port in plan.ports.items())
    if folders.is_locked(settings.layout):
        return Finding("ports", "ok", f"{text}, in use by this appliance")
    taken = {
        name: f"{name} {port} on {address}"
        for name, port in plan.ports.items()
        for address in plan.listen
        if not can_bind(address, port)
    }
    if taken:
        mend = f"end the program that holds them (`ss -ltnp`), or set {', '.join(map(setting_of, taken))}"
        return Finding("ports", "error", f"taken by another program: {', '.join(taken.values())}", mend)
    return Finding("ports", "ok", f"{text}, free")


def check_programs(settings: ApplianceSettings) -> Finding:
    from nautilus.appliance.boot import fcgiwrap_path
    from nautilus.appliance.rendering import git_http_backend

    try:
        nginx_path()
        fcgiwrap_path()
        git_http_backend()
    except ApplianceError as error:
        return Finding("programs", "error", str(error), "install what is named")
    return Finding("programs", "ok", "nginx, fcgiwrap, git")


def check_ssh(settings: ApplianceSettings) -> Finding:
    from nautilus.appliance.accounts import ensure_accounts
    from nautilus.appliance.sshd import choose_ssh

    plan = read_plan(settings.layout.appliance_file)
    ssh = choose_ssh(settings, ensure_accounts())
    if ssh.is_on:
        where = f", port {plan.ports['ssh']}" if plan is not None else ""
        return Finding("ssh", "ok", f"{ssh.program} lets in {ssh.user}{where}")
    if not settings.ssh:
        return Finding("ssh", "ok", ssh.reason)
    return Finding(
        "ssh",
        "warning",
        f"off: {ssh.reason}",
        "Git over HTTP works without it; NAUTILUS_SSH=off ends this warning",
    )


def check_postgres(settings: ApplianceSettings) -> Finding:
    try:
        binaries = postgres.binaries_for(settings.layout.postgres, postgres.installed_binaries())
    except (ApplianceError, PermissionError) as error:
        return Finding("postgresql", "error", str(error), "install the named version")
    return Finding("postgresql", "ok", f"{binaries.major} in {binaries.bin}")


def check_docker(settings: ApplianceSettings) -> Finding:
    choice = choose_executor(settings)
    if choice.executor == "docker" and "answers and has" in choice.reason:
        return Finding("docker", "ok", choice.reason)
    if settings.bundled_runner == "off":
        return Finding(
            "docker", "ok", "not used here: other machines run the jobs (NAUTILUS_BUNDLED_RUNNER=off)"
        )
    mend = "start Docker and build the job image (`docker build --target job -t nautilus-job .`) for jobs in containers"
    if settings.in_image:
        mend = f"add `--volume {SOCKET}:{SOCKET}`, or set NAUTILUS_BUNDLED_RUNNER=off where other machines run the jobs"
    return Finding("docker", "warning", choice.reason, mend)


def check_registry(settings: ApplianceSettings) -> Finding:
    from nautilus.appliance.registry import choose_registry

    try:
        choice = choose_registry(settings)
    except ApplianceError as error:
        return Finding("registry", "error", str(error), "name a program, or leave the setting out")
    if choice.is_on or settings.container_registry == "off":
        return Finding("registry", "ok", choice.reason)
    return Finding("registry", "warning", "there is no container registry", choice.reason)


def check_isolation(settings: ApplianceSettings) -> Finding:
    plan = read_plan(settings.layout.appliance_file)
    if plan and plan.executor == "docker":
        return Finding("isolation", "ok", "each job runs in a container")
    if os.geteuid() == 0:
        return Finding("isolation", "ok", "process jobs run as the user nautilus-job")
    mend = "let only people you trust push code, or start as root, or use Docker"
    return Finding("isolation", "warning", "process jobs run as this very user: not isolated", mend)


def check_clock(settings: ApplianceSettings) -> Finding:
    plan = read_plan(settings.layout.appliance_file)
    if plan is None or not folders.is_locked(settings.layout):
        return Finding("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))
    skew = _clock_skew_s(plan)
    if skew is None:
        return Finding(
            "clock", "warning", "the gateway does not answer, so clocks cannot be compared", "nautilus status"
        )
    if abs(skew) > _MOST_CLOCK_SKEW_S:
        return Finding(
            "clock",
            "error",
            f"{skew:.0f} s apart from the server's",
            "set the clock (systemd-timesyncd, chrony)",
        )
    return Finding("clock", "ok", f"{abs(skew):.1f} s from the server's")


def check_services(settings: ApplianceSettings) -> Finding:
    from nautilus.appliance.errors import NotRunning
    from nautilus.appliance.status import read_status

    try:
        now = read_status(settings.layout)
    except NotRunning:
        return Finding("services", "ok", "not started (`nautilus up` starts them)")
    bad = [
        f"{s.name} is {s.state}{': ' + s.detail if s.detail else ''}"
        for s in now.services
        if s.state not in ("ready", "running", "done", "off")
    ]
    if bad or not now.ready:
        return Finding("services", "error", "; ".join(bad) or "not ready", "nautilus logs SERVICE")
    return Finding("services", "ok", "all ready")


CHECKS: tuple[Callable[[ApplianceSettings], Finding], ...] = (
    check_python,
    check_edition,
    check_home,
    check_disk,
    check_ports,
    check_programs,
    check_ssh,
    check_postgres,
    check_docker,
    check_registry,
    check_isolation,
    check_clock,
    check_services,
)


def _clock_skew_s(plan: Plan) -> float | None:
    from email.utils import parsedate_to_datetime
    from http.client import HTTPConnection, HTTPException
    from urllib.parse import urlsplit

    address = urlsplit(plan.web_url)
    connection = HTTPConnection(address.hostname or "127.0.0.1", address.port, timeout=3)
    try:
        connection.request("HEAD", "/-/health")
        stamp = connection.getresponse().getheader("Date")
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
    return time.time() - parsedate_to_datetime(stamp).timestamp() if stamp else None


def _show(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    marks = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "error": "[red]✗[/]"}
    for f in findings:
        console.print(f"{marks[f.state]} {f.check:<13} {escape(f.detail)}", soft_wrap=True)
        if f.mend:
            console.print(f"  {'':<13} → {escape(f.mend)}", soft_wrap=True)
