"""gitlab-ctl: reconfigure, start, stop, restart, status, upgrade-check."""

from __future__ import annotations

import grp
import json
import os
import pwd
import secrets
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from nautilus.appliance.omnibus.package import Omnibus
from nautilus.testing.omnibus import services
from nautilus.testing.omnibus.evaluate import RubyError, evaluate

OLDEST_BEFORE = (19, 2)
"""The version that must have run before 19.3. Source: omnibus-gitlab package-scripts/preinst.erb, MIN_VERSION."""

_PATIENCE_S = 60.0


class Refused(Exception):
    """The command ends with status 1 and this line."""


def reconfigure(package: Omnibus) -> None:
    """What Chef makes true: folders, keys, the schema, the services' files."""
    print("Starting Chef Infra Client (stand-in)", flush=True)
    config = evaluate(package.etc / "gitlab.rb")
    _refuse_what_cannot_be(config)
    rails = config["gitlab_rails"]
    _ensure_secrets(package)
    _ensure_folders(package)
    _migrate(rails)
    services.write(package, config, account())
    _replace(package.migrated_version_file, package.version())
    (package.var / "bootstrapped").touch()
    _restart_changed(package)
    print("gitlab Reconfigured!", flush=True)


def stop(package: Omnibus) -> None:
    """Waits SVWAIT seconds (7 by default) for each to end, as `sv` does; 1 where one has not."""
    for service in _services(package):
        (service / "down").touch()
        _signal(service, signal.SIGTERM)
    deadline = time.monotonic() + float(os.environ.get("SVWAIT", "7"))
    while any(_pid(service) for service in _services(package)):
        if time.monotonic() > deadline:
            raise Refused("timeout: run: a service is still up")
        time.sleep(0.05)


def start(package: Omnibus) -> None:
    for service in _services(package):
        (service / "down").unlink(missing_ok=True)


def restart(package: Omnibus) -> None:
    stop(package)
    start(package)


def status(package: Omnibus) -> None:
    for service in _services(package):
        pid = _pid(service)
        print(f"run: {service.name}: (pid {pid})" if pid else f"down: {service.name}")


def upgrade_check(before: str) -> None:
    parts = tuple(int(part) for part in before.split(".")[:2])
    if parts < OLDEST_BEFORE:
        raise Refused(
            f"It is required to upgrade to the latest {OLDEST_BEFORE[0]}.{OLDEST_BEFORE[1]}.x version first"
        )


def account() -> str | None:
    """GitLab's system user, where the image has made it (with its web group) and we may become it."""
    with suppress(KeyError):
        grp.getgrnam("gitlab-www")
        return pwd.getpwnam("git").pw_name if os.geteuid() == 0 else None
    return None


def give(path: Path) -> None:
    if user := account():
        shutil.chown(path, user, user)


def _refuse_what_cannot_be(config: dict[str, Any]) -> None:
    """What would make the real package start parts that the appliance has already."""
    for section in ("postgresql", "nginx", "registry", "letsencrypt", "manage_accounts"):
        if config.get(section, {}).get("enable") is not False:
            raise Refused(f"{section}['enable'] is not false: the stand-in has no {section}")
    if config["gitlab_workhorse"].get("listen_network") != "unix":
        raise Refused("gitlab_workhorse['listen_network'] is not 'unix'")


def _ensure_secrets(package: Omnibus) -> None:
    if not package.secrets_file.exists():
        _replace(package.secrets_file, json.dumps({"gitlab_rails": {"db_key_base": secrets.token_hex(64)}}))
        package.secrets_file.chmod(0o600)


def _ensure_folders(package: Omnibus) -> None:
    for folder in (package.var / "git-data", package.workhorse_socket.parent, package.var / "gitlab-rails"):
        folder.mkdir(parents=True, exist_ok=True)
        give(folder)
    package.workhorse_socket.parent.chmod(0o750 if account() else 0o755)
    if account():
        shutil.chown(package.workhorse_socket.parent, "git", "gitlab-www")


def _migrate(rails: dict[str, Any]) -> None:
    """In a process of GitLab's user, since that is who the database knows."""
    from nautilus.appliance.schema import ensure_schema

    names = {"host": "db_host", "port": "db_port", "user": "db_username", "dbname": "db_database"}
    wanted = " ".join(f"{word}={rails[key]}" for word, key in names.items())
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if user := account():
                os.setgid(pwd.getpwnam(user).pw_gid)
                os.setuid(pwd.getpwnam(user).pw_uid)
            ensure_schema(wanted, "forge")
            code = 0
        except Exception as error:
            print(f"gitlab:db:migrate: {error}", file=sys.stderr, flush=True)
        os._exit(code)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        raise Refused("rails_migration[gitlab-rails] had an error")


def _restart_changed(package: Omnibus) -> None:
    """Services whose files changed are restarted, as runit_service resources notify."""
    for service in _services(package):
        marker = service / "restart"
        if marker.exists():
            marker.unlink()
            _signal(service, signal.SIGTERM)


def _services(package: Omnibus) -> list[Path]:
    return sorted(package.services.iterdir())


def _pid(service: Path) -> int | None:
    try:
        pid = int((service / "pid").read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid


def _signal(service: Path, number: signal.Signals) -> None:
    pid = _pid(service)
    if pid is not None:
        with suppress(ProcessLookupError):
            os.killpg(pid, number)


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.replace(path)


def main() -> None:
    package = Omnibus(Path(sys.argv[1]))
    command, arguments = sys.argv[2], sys.argv[3:]
    commands = {
        "reconfigure": reconfigure,
        "stop": stop,
        "start": start,
        "restart": restart,
        "status": status,
    }
    try:
        if command == "upgrade-check":
            upgrade_check(arguments[0])
        elif command in commands:
            commands[command](package)
        else:
            raise Refused(f"{command}: the stand-in has no such command")
    except (Refused, RubyError) as error:
        print(f"There was an error running gitlab-ctl {command}:\n{error}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
