"""The `gitlab` program of the full edition: configures GitLab CE, runs it, and ends it in time.

As GitLab's own container does it (omnibus-gitlab docker/assets/init-container): runsvdir-start in front, one
`gitlab-ctl reconfigure` where something has changed, `gitlab-ctl stop` at the end. What it is doing is in
run/gitlab.json, which `/-/health`, `nautilus status` and provision read.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from nautilus.appliance import postgres, registry
from nautilus.appliance.accounts import ensure_accounts
from nautilus.appliance.errors import ApplianceError, StepFailed
from nautilus.appliance.files import replace_public
from nautilus.appliance.layout import Layout
from nautilus.appliance.omnibus import database, kept
from nautilus.appliance.omnibus.files import ensure_configuration
from nautilus.appliance.omnibus.package import Omnibus
from nautilus.appliance.omnibus.settings import FirstBoot, Joints, Registry
from nautilus.appliance.plan import Plan, read_plan
from nautilus.appliance.processes import Process, descendants, read_process
from nautilus.appliance.settings import ApplianceSettings

_RETRY_AFTER_S = 15.0
"""After a failed reconfigure: long enough for its reason to be read, and not to burn the machine."""

_PATH = (
    "/opt/gitlab/bin:/opt/gitlab/embedded/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)


@dataclass(frozen=True)
class Status:
    """What is told to the others: `waiting`, `configuring`, `running`, `failed` or `stopping`, and why."""

    path: Path

    def write(self, state: str, detail: str) -> None:
        body = {"state": state, "detail": detail, "since": time.time(), "pid": os.getpid()}
        replace_public(self.path, json.dumps(body) + "\n")
        print(f"gitlab: {state}: {detail}", flush=True)


@dataclass
class Program:
    """One run of GitLab. `stop_s`: seconds that its services get to end by themselves."""

    layout: Layout
    plan: Plan
    package: Omnibus
    gateway_user: str
    has_registry: bool
    stop_s: float
    ending: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.status = Status(self.layout.gitlab_status)

    @property
    def server(self) -> str:
        return postgres.conninfo(self.layout.postgres_socket_dir)

    def run(self) -> None:
        """Returns when GitLab has ended because it was asked to. Raises ApplianceError where it cannot run."""
        self.package.ensure_installed()
        self._wait_for_database()
        if self.ending.is_set():
            return
        kept.ensure_own_data(self.package, self.layout, is_first=database.is_empty(self.server))
        self._configure_files()
        supervisor = self._adopt() or self._start()
        try:
            if kept.needs_reconfigure(self.package):
                self._reconfigure()
            self.status.write("running", f"GitLab {self.package.version()}".rstrip())
            self._watch(supervisor)
        finally:
            self._stop(supervisor)

    def ask_to_end(self, *_: int | FrameType | None) -> None:
        self.ending.set()

    def _wait_for_database(self) -> None:
        self.status.write("waiting", "for its database")
        key = self.layout.secret(registry.CERTIFICATE_NAME)
        while not self.ending.is_set():
            if database.is_prepared(self.server) and (not self.has_registry or key.exists()):
                return
            self.ending.wait(0.3)

    def _configure_files(self) -> None:
        """With the secrets of the first boot until a reconfigure has come to its end, even if not at once."""
        first = None
        if not kept.has_been_configured(self.layout):
            first = FirstBoot(self._secret("root_password"), self._secret("registration_token"))
        joints = joints_of(self.plan, self.layout, self.gateway_user, self.has_registry)
        ensure_configuration(self.package, joints, first)

    def _secret(self, name: str) -> str:
        return self.layout.secret(name).read_text().strip()

    def _adopt(self) -> Process | None:
        """The runsvdir that a killed program of ours left behind: GitLab went on running below it."""
        try:
            pid, started = map(int, self._pid_file.read_text().split())
        except (OSError, ValueError):
            return None
        found = read_process(pid)
        return found if found is not None and found.started_ticks == started else None

    def _start(self) -> Process:
        kept.remove_stale(self.package)
        child = subprocess.Popen(
            [str(self.package.runsvdir_start)], env=environment(), start_new_session=True
        )
        found = read_process(child.pid)
        if found is None:
            raise StepFailed(f"{self.package.runsvdir_start} ended at once: see `nautilus logs gitlab`")
        self._pid_file.write_text(f"{found.pid} {found.started_ticks}\n")
        return found

    @property
    def _pid_file(self) -> Path:
        return self.layout.run / "gitlab-runsvdir.pid"

    def _reconfigure(self) -> None:
        began = time.monotonic()
        self.status.write("configuring", "gitlab-ctl reconfigure; the first time takes minutes")
        child = subprocess.Popen(
            [str(self.package.ctl), "reconfigure"],
            env=environment(),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        while (code := child.poll()) is None and not self.ending.is_set():
            self.ending.wait(0.2)
        if code is None:
            _end_group(child)
            return
        if code != 0:
            raise StepFailed(
                f"gitlab-ctl reconfigure failed with status {code}: `nautilus logs gitlab` and "
                f"{self.package.log}/reconfigure say why; it is tried again"
            )
        kept.ensure_secrets_copied(self.package, self.layout)
        self._configure_files()
        kept.write_stamp(self.package)
        print(f"gitlab: configured in {time.monotonic() - began:.0f} s", flush=True)

    def _watch(self, supervisor: Process) -> None:
        while not self.ending.is_set():
            _reap()
            if not supervisor.is_alive():
                raise StepFailed("runsvdir ended by itself: it is started again")
            self.ending.wait(0.5)

    def _stop(self, supervisor: Process) -> None:
        """`gitlab-ctl stop`, then an end to whatever has not followed: PostgreSQL must still get its time."""
        if not supervisor.is_alive():
            return
        if self.ending.is_set():
            self.status.write("stopping", f"GitLab's services, {self.stop_s:.0f} s at most")
        everything = [p for pid in descendants(supervisor.pid) if (p := read_process(pid)) is not None]
        with suppress(subprocess.TimeoutExpired, OSError):
            wait = {"SVWAIT": str(max(1, int(self.stop_s)))}
            subprocess.run(
                [str(self.package.ctl), "stop"], env=environment(wait), timeout=self.stop_s + 0.5, check=False
            )
        for process, number in [(supervisor, signal.SIGHUP), *((p, signal.SIGKILL) for p in everything)]:
            if process.is_alive():
                with suppress(ProcessLookupError):
                    os.kill(process.pid, number)
            if process is supervisor:
                _wait_gone(supervisor, 0.5)
        self._pid_file.unlink(missing_ok=True)


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """GitLab's programs get none of our own variables."""
    kept_names = ("LANG", "TZ", "HOSTNAME", "SSL_CERT_FILE", "http_proxy", "https_proxy", "no_proxy")
    found = {name: os.environ[name] for name in kept_names if name in os.environ}
    return {"PATH": _PATH, "HOME": "/root", "TERM": "dumb", **found, **(more or {})}


def joints_of(plan: Plan, layout: Layout, gateway_user: str, has_registry: bool) -> Joints:
    """What the plan means for GitLab; reads the registry's key."""
    ours = None
    if has_registry:
        ours = Registry(
            external_url=plan.registry_external_url,
            api_url=f"http://{plan.inner_address}:{plan.ports['registry']}",
            issuer=registry.ISSUER,
            key=layout.secret(registry.KEY_NAME).read_text(),
        )
    return Joints(
        external_url=plan.gitlab_external_url,
        ssh_host=plan.ssh_host,
        ssh_port=plan.ssh_port,
        database_socket_dir=layout.gitlab_database_socket_dir,
        gateway_user=gateway_user,
        trusted_proxies=tuple(plan.trusted_proxies),
        registry=ours,
    )


def _reap() -> None:
    with suppress(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def _end_group(child: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    try:
        child.wait(2)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _wait_gone(process: Process, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
        _reap()


def main() -> None:
    settings = ApplianceSettings.from_environment()
    layout = settings.layout
    plan = read_plan(layout.appliance_file)
    if plan is None:
        print(f"gitlab: {layout.appliance_file} is missing: start through `nautilus boot`", file=sys.stderr)
        raise SystemExit(9)
    package = Omnibus(settings.omnibus_root)
    who = ensure_accounts()
    has_registry = registry.choose_registry(settings).is_on
    program = Program(layout, plan, package, who.service, has_registry, settings.gitlab_stop_s)
    signal.signal(signal.SIGTERM, program.ask_to_end)
    signal.signal(signal.SIGINT, program.ask_to_end)
    try:
        program.run()
    except ApplianceError as error:
        program.status.write("failed", str(error))
        program.ending.wait(_RETRY_AFTER_S)
        raise SystemExit(0 if program.ending.is_set() else error.exit_code) from None


if __name__ == "__main__":
    main()
