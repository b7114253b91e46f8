"""nautilus up, down, status, logs, restart: the appliance of this data folder (NAUTILUS_HOME)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TextIO

import typer

from nautilus.appliance import folders, jobs_environment, processes
from nautilus.appliance import status as appliance_status
from nautilus.appliance.errors import ApplianceError, NotReady, NotRunning
from nautilus.appliance.layout import Layout
from nautilus.appliance.plan import Plan, read_plan
from nautilus.appliance.settings import ApplianceSettings
from nautilus.appliance.supervisor import Supervisor
from nautilus.cli.output import CommandError, as_typed, emit, progress_console

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
PROGRAMS = (
    "postgres",
    "git",
    "forge",
    "gitlab",
    "registry",
    "management",
    "gateway",
    "sshd",
    "runner",
    "provision",
)
_READY_WITHIN_S = 180.0
_DOWN_WITHIN_S = 90.0


def up(as_json: Json = False) -> None:
    """Start the appliance (data below NAUTILUS_HOME, ./.nautilus by default) and wait until it is ready."""
    settings = ApplianceSettings.from_environment()
    began = time.monotonic()
    start(settings)
    plan = _plan(settings.layout)
    warnings = appliance_status.warnings(settings.layout)
    body = {
        "ready": True,
        "url": plan.external_url,
        "seconds": round(time.monotonic() - began, 2),
        "executor": plan.executor,
        "warnings": warnings,
    }

    def show() -> None:
        for warning in warnings:
            print(f"warning: {warning}")
        print(f"Nautilus is ready at {plan.external_url} (GitLab API and Git: {plan.gitlab_external_url})")
        print(f"Jobs run {_executor_words(plan)}.")
        print(f"Sign in as root; `{as_typed('user password')}` shows the password.")

    emit(body, as_json, show)


def start(settings: ApplianceSettings) -> None:
    """Boots unless it already runs; returns when everything is ready. Raises an ApplianceError."""
    layout = settings.layout
    child = None
    if not folders.is_locked(layout):
        child = _spawn_boot(layout)
    try:
        _wait_ready(layout, child)
    except KeyboardInterrupt:
        if child is not None:
            progress_console().print("interrupted: stopping what was started")
            stop(layout)
        raise


def down(as_json: Json = False) -> None:
    """Stop the appliance cleanly: running process jobs are ended and reported, PostgreSQL is shut down last."""
    layout = ApplianceSettings.from_environment().layout
    was_running = stop(layout)
    emit(
        {"stopped": was_running},
        as_json,
        lambda: print("Nautilus is stopped." if was_running else "Nautilus was not running."),
    )


def stop(layout: Layout) -> bool:
    """Ends the appliance and whatever it left behind; False when nothing ran."""
    was_running = True
    try:
        Supervisor(layout).shutdown()
    except NotRunning:
        was_running = False
    deadline = time.monotonic() + _DOWN_WITHIN_S
    with progress_console().status("stopping"):
        while folders.is_locked(layout) and was_running and time.monotonic() < deadline:
            time.sleep(0.05)
        left = processes.family(layout.home)
        processes.end_processes(left, grace_s=10.0)
    return was_running or bool(left)


def status(as_json: Json = False) -> None:
    """Show each service: state, pid, uptime, memory. Exit code 0 when all are ready, 6 when none runs, else 1."""
    layout = ApplianceSettings.from_environment().layout
    try:
        now = appliance_status.read_status(layout)
    except NotRunning as error:
        now = appliance_status.stopped_status(layout)
        if as_json:
            emit(now.as_json(), True, lambda: None)
            raise SystemExit(error.exit_code) from None
        raise
    emit(now.as_json(), as_json, lambda: _show_status(now))
    if not now.ready:
        raise SystemExit(1)


def restart(
    service: Annotated[str, typer.Argument(help=f"One of: {', '.join(PROGRAMS)}.")], as_json: Json = False
) -> None:
    """Restart one service. Running jobs survive a restart of the runner."""
    layout = ApplianceSettings.from_environment().layout
    if service not in PROGRAMS:
        raise CommandError(f"there is no service {service!r}: use one of {', '.join(PROGRAMS)}", 2)
    supervisor = Supervisor(layout)
    if any(program.is_off for program in supervisor.programs() if program.name == service):
        raise CommandError(f"{service} is switched off, or is not in this edition: `nautilus config show`", 2)
    if service == "runner":
        _restart_runner(supervisor)
    else:
        supervisor.restart(service)
    _wait_ready(layout, None)
    emit({"restarted": service}, as_json, lambda: print(f"{service} was restarted; the appliance is ready."))


def logs(
    service: Annotated[str | None, typer.Argument(help="A service; all when left out.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines arrive.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many last lines of each.")] = 50,
) -> None:
    """Print the services' logs, newest last."""
    layout = ApplianceSettings.from_environment().layout
    paths = _log_paths(layout, service)
    tails = [(path, _print_tail(path, lines, prefix=len(paths) > 1)) for path in paths]
    while follow:
        tails = [(path, _print_from(path, offset, prefix=len(paths) > 1)) for path, offset in tails]
        time.sleep(0.2)


def boot_command() -> None:
    """Prepare the data folder and become the supervisor (what the image and `up` start)."""
    from nautilus.appliance.boot import boot_with_warnings

    boot_with_warnings()


def healthcheck() -> None:
    """Exit code 0 when every component is ready; else name those that are not (what the image's HEALTHCHECK runs)."""
    from nautilus.appliance.healthcheck import unready_components

    unready = unready_components(ApplianceSettings.from_environment())
    if unready:
        raise CommandError("; ".join(unready))
    print("ready")


def _executor_words(plan: Plan) -> str:
    how = "in containers" if plan.executor == "docker" else "as processes of this machine"
    return f"{how} ({plan.executor_reason})"


def _plan(layout: Layout) -> Plan:
    plan = read_plan(layout.appliance_file)
    if plan is None:
        raise NotRunning(f"no appliance was ever started on {layout.home}: run `nautilus up`")
    return plan


def _spawn_boot(layout: Layout) -> subprocess.Popen[bytes]:
    layout.home.mkdir(parents=True, exist_ok=True)
    layout.log.mkdir(exist_ok=True)
    with (layout.log / "boot.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "nautilus.appliance.boot"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )


def _wait_ready(layout: Layout, child: subprocess.Popen[bytes] | None) -> None:
    console = progress_console()
    deadline = time.monotonic() + _READY_WITHIN_S
    with console.status("starting Nautilus") as display:
        while not appliance_status.is_ready(layout):
            if child is not None and child.poll() is not None:
                raise _boot_error(layout, child.returncode)
            waiting = appliance_status.waiting_for(layout)
            slow = [
                f"{name}: {state}{f' ({detail})' if detail else ''}"
                for name, state, detail in waiting
                if state != "ready"
            ]
            display.update(f"starting Nautilus; {', '.join(slow) or 'preparing'}")
            if time.monotonic() > deadline:
                raise NotReady(
                    f"not ready after {_READY_WITHIN_S:.0f} s; waiting for {', '.join(slow)}: see `nautilus logs`"
                )
            time.sleep(0.05)
        _wait_for_jobs_environment(layout, display.update)


def _wait_for_jobs_environment(layout: Layout, say: Callable[[str], None]) -> None:
    plan = _plan(layout)
    if plan.executor == "process" and not jobs_environment.is_prepared(layout):
        say("preparing the jobs' Python environment (scikit-learn, mlflow); once")
        jobs_environment.ensure_jobs_environment(layout, plan)


def _boot_error(layout: Layout, code: int) -> ApplianceError:
    lines = (layout.log / "boot.log").read_text(errors="replace").strip().splitlines()
    ours = [line.removeprefix("nautilus: ") for line in lines if line.startswith("nautilus: ")]
    ours = [line for line in ours if not line.startswith("warning: ")]
    error = ApplianceError("\n".join(ours or lines[-1:] or [f"boot ended with code {code}"]))
    error.exit_code = code if code > 0 else 1
    return error


def _restart_runner(supervisor: Supervisor) -> None:
    before = next(p.pids for p in supervisor.programs() if p.name == "runner")
    supervisor.signal("runner", signal.SIGTERM)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        now = next(p for p in supervisor.programs() if p.name == "runner")
        if now.state == "running" and now.pids != before:
            return
        time.sleep(0.05)
    raise NotReady("the runner did not come back within 30 s: see `nautilus logs runner`")


def _show_status(now: appliance_status.ApplianceStatus) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name, justify in (
        ("service", "left"),
        ("state", "left"),
        ("pid", "right"),
        ("up", "right"),
        ("MiB", "right"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("detail")
    for s in now.services:
        color = (
            "green"
            if s.state in ("ready", "running", "done")
            else "dim"
            if s.state == "off"
            else "yellow"
            if s.state in ("starting", "waiting")
            else "red"
        )
        numbers = (
            str(s.pid or "–"),
            _duration(s.uptime_s),
            f"{s.pss_mib:.1f}" if s.pss_mib is not None else "–",
        )
        table.add_row(s.name, f"[{color}]{s.state}[/]", *numbers, escape(s.detail))
    console = Console()
    console.print(table)
    console.print(
        f"{'Ready' if now.ready else 'Not ready'} at {now.url}; {_memory(now.services)}", markup=False
    )


def _memory(services: list[appliance_status.ServiceStatus]) -> str:
    """The services' memory together, and whose could not be read."""
    unknown = [s.name for s in services if s.pid and s.pss_mib is None]
    total = f"{sum(s.pss_mib or 0 for s in services):.0f} MiB in all"
    return f"{total}, without {', '.join(unknown)}" if unknown else total


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}h{m:02}m" if hours else f"{m}m{s:02}s" if m else f"{s}s"


def _log_paths(layout: Layout, service: str | None) -> list[Path]:
    wanted = [
        path
        for path in sorted(layout.log.glob("*.log"))
        if service is None or path.stem.split("_")[0] == service
    ]
    if not wanted:
        names = sorted({path.stem.split("_")[0] for path in layout.log.glob("*.log")})
        raise CommandError(
            f"there is no log of {service!r}: use one of {', '.join(names) or '(none yet)'}", 2
        )
    return wanted


def _print_tail(path: Path, lines: int, prefix: bool) -> int:
    """Prints the last lines; returns the offset after them."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 400 * max(lines, 1)))
        text = file.read(end - file.tell()).decode(errors="replace")
    _write_lines(text.splitlines()[-lines:] if lines else [], path if prefix else None, sys.stdout)
    return end


def _print_from(path: Path, offset: int, prefix: bool) -> int:
    if not path.exists() or path.stat().st_size < offset:
        offset = 0
    if not path.exists():
        return 0
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    complete = data[: data.rfind(b"\n") + 1]
    _write_lines(complete.decode(errors="replace").splitlines(), path if prefix else None, sys.stdout)
    return offset + len(complete)


def _write_lines(lines: list[str], path: Path | None, out: TextIO) -> None:
    for line in lines:
        out.write(f"{path.stem:<12} {line}\n" if path else f"{line}\n")
    out.flush()
