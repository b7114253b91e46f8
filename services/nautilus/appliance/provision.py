"""The `provision` program: makes every step of the first boot, a restart or an upgrade true, then ends.

Each step says what it waits for in run/provision.json, which `/-/health`, `nautilus up` and the
not-ready page show. A step that fails ends the program; supervisord starts it again.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nautilus.appliance import reading
from nautilus.appliance.accounts import Accounts, ensure_accounts
from nautilus.appliance.bundled_runner import ensure_bundled_runner
from nautilus.appliance.database_access import ensure_database_access
from nautilus.appliance.edition import Edition, read_made
from nautilus.appliance.errors import ApplianceError, StepFailed
from nautilus.appliance.files import replace_public
from nautilus.appliance.folders import write_private
from nautilus.appliance.full_edition import PATIENCE_S, ensure_service_token, wait_configured
from nautilus.appliance.layout import Layout
from nautilus.appliance.omnibus.database import ensure_gitlab_database
from nautilus.appliance.omnibus.package import Omnibus
from nautilus.appliance.plan import Plan, read_plan
from nautilus.appliance.postgres import DATABASES, conninfo
from nautilus.appliance.schema import ensure_schema
from nautilus.appliance.settings import home_folder, omnibus_root

if TYPE_CHECKING:
    from nautilus.gitlab.provisioning import Administration

HOOK_ADDRESSES = ("127.0.0.1", "localhost")
"""Where GitLab's hooks find management; GitLab sends none to its own machine unless it is told that it may."""

_PATIENCE_S = 300.0
"""How long one step waits for another program before it gives up (and is started again)."""


@dataclass
class Progress:
    """Writes what is being done to a file, atomically."""

    path: Path
    steps: list[dict[str, object]] = field(default_factory=list)

    def write(self, state: str, step: str = "", detail: str = "") -> None:
        """`state`: running, ready or failed."""
        body = {"state": state, "step": step, "detail": detail, "steps": self.steps, "pid": os.getpid()}
        replace_public(self.path, json.dumps(body) + "\n")

    def run(self, name: str, action: Callable[[], object]) -> None:
        self.write("running", name)
        began = time.monotonic()
        action()
        self.steps.append({"name": name, "seconds": round(time.monotonic() - began, 3)})


def provision(
    layout: Layout,
    plan: Plan,
    who: Accounts,
    progress: Progress,
    edition: Edition = Edition.LITE,
    package: Omnibus | None = None,
) -> None:
    """The same for both editions, but for GitLab's own set-up. Raises StepFailed when a step cannot be made true."""
    from nautilus.gitlab.provisioning import Administration  # while PostgreSQL starts

    sockets = layout.postgres_socket_dir
    progress.run("database server", lambda: ensure_server(sockets))
    progress.run("databases", lambda: ensure_databases(sockets, edition))
    progress.run("database access", lambda: ensure_database_access(layout, plan))
    token = layout.secret("admin_token").read_text().strip()
    gitlab = Administration(plan.gitlab_url, token)
    if edition is Edition.FULL:
        full_edition_steps(layout, gitlab, progress, package or Omnibus(), token)
    progress.run("GitLab", lambda: _wait_until(gitlab.is_ready, "GitLab's API does not answer"))
    progress.run("registration by token", lambda: ensure_registration_allowed(gitlab, layout))
    progress.run("bundled runner", lambda: ensure_bundled_runner(gitlab, layout, plan, who))
    progress.run("hooks", lambda: gitlab.allow_hooks_to(HOOK_ADDRESSES))
    progress.run("sign-in", lambda: ensure_oauth_application(gitlab, layout, plan, who))
    progress.write("ready")


def full_edition_steps(
    layout: Layout, gitlab: Administration, progress: Progress, package: Omnibus, token: str
) -> None:
    step = "GitLab's set-up"
    progress.run(step, lambda: wait_configured(layout, lambda word: progress.write("running", step, word)))
    progress.run(
        "GitLab's readiness",
        lambda: _wait_until(
            gitlab.is_server_ready, "/-/readiness?all=1 does not answer 200", 0.5, PATIENCE_S
        ),
    )
    progress.run("service token", lambda: ensure_service_token(gitlab, package, token))


def ensure_server(sockets: Path) -> None:
    import psycopg

    def answers() -> bool:
        try:
            psycopg.connect(conninfo(sockets, "postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    _wait_until(answers, f"PostgreSQL does not answer in {sockets}", interval_s=0.03)


def ensure_databases(sockets: Path, edition: Edition = Edition.LITE) -> None:
    """Each service's database and its schema, side by side; GitLab makes its own schema."""
    ours = {name: service for name, service in DATABASES.items() if service in edition.services}
    with ThreadPoolExecutor(len(ours) + 1) as threads:
        waiting = [threads.submit(ensure_database, sockets, *pair) for pair in ours.items()]
        if edition is Edition.FULL:
            waiting.append(threads.submit(ensure_gitlab_database, conninfo(sockets)))
        for made in waiting:
            made.result()


def ensure_database(sockets: Path, name: str, service: str) -> None:
    import psycopg
    from psycopg import sql

    with psycopg.connect(conninfo(sockets, "postgres"), autocommit=True) as connection:
        if not connection.execute("select from pg_database where datname = %s", (name,)).fetchall():
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    if name == reading.DATABASE:
        with psycopg.connect(conninfo(sockets, name), autocommit=True) as connection:
            reading.drop_reading(connection)
    ensure_schema(conninfo(sockets, name), service)


def ensure_registration_allowed(gitlab: Administration, layout: Layout) -> None:
    """Switches registration tokens on at the first boot only: an administrator may switch them off later."""
    done = layout.etc / "registration-allowed"
    if not done.exists():
        gitlab.allow_registration_tokens()
        done.touch()


def ensure_oauth_application(gitlab: Administration, layout: Layout, plan: Plan, who: Accounts) -> None:
    """One OAuth application of ours at GitLab; made again when its secret or the address is not the stored one."""
    redirect_uri = f"{plan.external_url}/auth/callback"
    path = layout.secret("oauth.json")
    stored = json.loads(path.read_text()) if path.exists() else {}
    if stored.get("redirect_uri") == redirect_uri and gitlab.has_application(stored.get("client_id", "")):
        return
    made = gitlab.make_application("Nautilus", redirect_uri)
    body = {"client_id": made.client_id, "client_secret": made.client_secret, "redirect_uri": redirect_uri}
    write_private(path, json.dumps(body) + "\n", who)


def _wait_until(
    is_true: Callable[[], bool], otherwise: str, interval_s: float = 0.05, patience_s: float = _PATIENCE_S
) -> None:
    deadline = time.monotonic() + patience_s
    while not is_true():
        if time.monotonic() > deadline:
            raise StepFailed(f"{otherwise} after {patience_s:.0f} s: see `nautilus logs`")
        time.sleep(interval_s)


def main() -> None:
    gc.disable()  # a short life: what is imported is not garbage
    layout = Layout(home_folder(os.environ))
    plan = read_plan(layout.appliance_file)
    progress = Progress(layout.provision_status)
    try:
        if plan is None:
            raise StepFailed(f"{layout.appliance_file} is missing: start through `nautilus up`")
        made = read_made(layout)
        edition = Edition(made.edition) if made else Edition.LITE
        provision(layout, plan, ensure_accounts(), progress, edition, Omnibus(omnibus_root(os.environ)))
    except ApplianceError as error:
        progress.write("failed", detail=str(error))
        print(f"provision: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except Exception as error:
        progress.write("failed", detail=f"{type(error).__name__}: {error}")
        raise


if __name__ == "__main__":
    main()
