"""Which operating-system user runs what.

As an ordinary user everything runs as that user. As root, services run as the system user `nautilus`
and process jobs as `nautilus-job`: PostgreSQL refuses to run as root, and a job must not read secrets.
"""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nautilus.appliance.errors import HomeUnusable

SERVICE_USER = "nautilus"
JOB_USER = "nautilus-job"
RUNNER_USER = "nautilus-runner"
"""Exists in the image alone: there the runner needs the Docker socket, and nothing else of root's."""


@dataclass(frozen=True)
class Accounts:
    """Names of the users: `service` runs the services, `runner` the runner, `job` process jobs ('' = as the runner)."""

    service: str
    runner: str
    job: str

    @property
    def service_uid(self) -> int:
        return pwd.getpwnam(self.service).pw_uid

    @property
    def service_gid(self) -> int:
        return pwd.getpwnam(self.service).pw_gid

    def service_process(self) -> dict[str, Any]:
        """Arguments of `subprocess` that start a program as the service user; none where we are that user."""
        if os.geteuid() != 0:
            return {}
        return {"user": self.service_uid, "group": self.service_gid, "extra_groups": []}


def ensure_accounts() -> Accounts:
    """The accounts to use; makes the two system users where we are root and they are missing."""
    if os.geteuid() != 0:
        me = pwd.getpwuid(os.geteuid()).pw_name
        return Accounts(service=me, runner=me, job="")
    for name in (SERVICE_USER, JOB_USER):
        _ensure_system_user(name)
    return Accounts(
        service=SERVICE_USER, runner=RUNNER_USER if _exists(RUNNER_USER) else "root", job=JOB_USER
    )


def ensure_docker_access(who: Accounts, docker_socket: Path) -> None:
    """Lets the runner's user, and no other of ours, use the mounted Docker socket, by the socket's group.

    Raises HomeUnusable where the container's root folder is read-only and the group must be made.
    """
    if os.geteuid() != 0 or who.runner in ("root", who.service) or not docker_socket.is_socket():
        return
    gid = docker_socket.stat().st_gid
    try:
        group = grp.getgrgid(gid).gr_name
    except KeyError:
        group = f"docker-host-{gid}"
        _change_group_file(gid, "groupadd", "--system", "--gid", str(gid), group)
    if who.runner not in grp.getgrnam(group).gr_mem:
        _change_group_file(gid, "usermod", "--append", "--groups", group, who.runner)


def _change_group_file(gid: int, *argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode != 0:
        raise HomeUnusable(
            f"the Docker socket belongs to group {gid}, and the runner's user cannot be put into it "
            f"({done.stderr.strip()}): start the container without --read-only and --cap-drop, or without the socket"
        )


def can_reach(path: Path) -> bool:
    """Whether any user may read below `path`: each folder on the way lets others pass."""
    resolved = path.resolve()
    return all(folder.stat().st_mode & 0o001 for folder in (resolved, *resolved.parents) if folder.is_dir())


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _ensure_system_user(name: str) -> None:
    if _exists(name):
        return
    argv = ["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent", "--user-group"]
    done = subprocess.run([*argv, "--shell", "/usr/sbin/nologin", name], capture_output=True, text=True)
    if done.returncode not in (0, 9):  # 9: somebody else made it meanwhile
        raise HomeUnusable(f"could not make the system user {name}: {done.stderr.strip()}")
