"""The `sshd` program: OpenSSH for Git alone. One user, whose keys the forge knows, and one forced command.

Writes etc/sshd_config, makes the host keys once, lets sshd check the configuration, and execs `sshd -D -e`.
As root sshd lets in the user `git`, another name for the account of the services (the repositories are its own). As
an ordinary user it can only let in that very user.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from nautilus.appliance.accounts import Accounts, ensure_accounts
from nautilus.appliance.edition import Edition
from nautilus.appliance.errors import ApplianceError, HomeUnusable, MissingProgram, StepFailed
from nautilus.appliance.files import replace_public
from nautilus.appliance.host_keys import ensure_host_keys
from nautilus.appliance.layout import Layout
from nautilus.appliance.plan import Plan, read_plan
from nautilus.appliance.settings import ApplianceSettings
from nautilus.appliance.sshd_config import ForgeKeys, GitLabShellKeys, SshdConfig, render

GIT_USER = "git"
SPARE_GIT_USER = "nautilus-git"
"""Where somebody else's account is called `git` already."""

_PRIVILEGE_SEPARATION = Path("/run/sshd")
_NO_SHELLS = ("nologin", "false", "true", "sync", "git-shell")
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Ssh:
    """Whether SSH is on. `user`: whom it lets in; `program`: sshd's path, "" where off; `reason`: why it is off."""

    user: str
    program: str
    reason: str = ""

    @property
    def is_on(self) -> bool:
        return bool(self.program)


def choose_ssh(settings: ApplianceSettings, who: Accounts) -> Ssh:
    """On, unless it was switched off or cannot work here. Changes nothing."""
    user = login_user(settings, who)
    if not settings.ssh:
        return Ssh(user, "", "switched off (NAUTILUS_SSH=off)")
    program = sshd_path()
    if not program:
        return Ssh(user, "", "sshd is not installed: `apt-get install openssh-server`, then start again")
    if os.geteuid() != 0:
        shell = pwd.getpwuid(os.geteuid()).pw_shell or "/bin/sh"
        if Path(shell).name in _NO_SHELLS or not os.access(shell, os.X_OK):
            return Ssh(user, "", f"the user {user} has no login shell ({shell}), so sshd cannot let him in")
    return Ssh(user, program)


def login_user(settings: ApplianceSettings, who: Accounts) -> str:
    """The one user that clone addresses name."""
    if settings.edition is Edition.FULL:
        return GIT_USER
    if os.geteuid() != 0:
        return who.service
    taken = _account(GIT_USER)
    return GIT_USER if taken is None or taken.pw_uid == who.service_uid else SPARE_GIT_USER


def sshd_path() -> str:
    """Absolute path of sshd (it insists on one to start itself anew for each connection); "" where it is missing."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/sbin"
    found = os.environ.get("NAUTILUS_SSHD_PROGRAM") or shutil.which("sshd", path=path)
    return str(Path(found).absolute()) if found and Path(found).exists() else ""


def ensure_login_user(settings: ApplianceSettings, who: Accounts) -> str:
    """Makes the user that SSH lets in, as root; GitLab's package makes its own. Raises HomeUnusable."""
    name = login_user(settings, who)
    if os.geteuid() != 0 or settings.edition is Edition.FULL or _account(name) is not None:
        return name
    argv = ["useradd", "--non-unique", "--uid", str(who.service_uid), "--gid", str(who.service_gid)]
    argv += ["--no-create-home", "--home-dir", "/", "--no-log-init", "--shell", "/bin/sh"]
    # No password fits "*"; "!" would be a locked account, which sshd lets in by no key either.
    done = subprocess.run([*argv, "--password", "*", name], capture_output=True, text=True)
    if done.returncode not in (0, 9):  # 9: somebody else made it meanwhile
        raise HomeUnusable(f"could not make the user {name} for SSH: {done.stderr.strip()}")
    return name


def _account(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def configuration(
    settings: ApplianceSettings, plan: Plan, who: Accounts, version: tuple[int, int]
) -> SshdConfig:
    """What sshd is to do. `version`: OpenSSH's."""
    layout = settings.layout
    shell = layout.root / "services" / "nautilus_forge" / "git" / "shell.py"
    keys = ForgeKeys(who.service, sys.executable, str(shell), str(layout.forge_socket))
    return SshdConfig(
        port=plan.ports["ssh"],
        addresses=tuple(plan.listen),
        user=login_user(settings, who),
        host_keys=tuple(str(key) for key in ensure_host_keys(layout.ssh, _kept_before(settings))),
        keys=GitLabShellKeys() if settings.edition is Edition.FULL else keys,
        path=os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"),
        version=version,
    )


def _kept_before(settings: ApplianceSettings) -> Path | None:
    """Where MLReef's command mounts the folder in which Omnibus's container keeps its host keys."""
    return Path("/etc/gitlab") if settings.in_image else None


def version_of(program: str) -> tuple[int, int]:
    """Major and minor of OpenSSH; (0, 0) where it does not say."""
    told = subprocess.run([program, "-V"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    match = re.search(r"OpenSSH_(\d+)\.(\d+)", told.stderr + told.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def prepare(settings: ApplianceSettings) -> list[str]:
    """The command line of an sshd whose configuration is right. Raises an ApplianceError."""
    layout = settings.layout
    plan, who = read_plan(layout.appliance_file), ensure_accounts()
    ssh = choose_ssh(settings, who)
    if plan is None:
        raise StepFailed(f"{layout.appliance_file} is missing: start sshd through `nautilus up`")
    if not ssh.is_on:
        raise MissingProgram(ssh.reason)
    ensure_login_user(settings, who)
    if os.geteuid() == 0:
        _PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    path = _write(layout, render(configuration(settings, plan, who, version_of(ssh.program))))
    checked = subprocess.run([ssh.program, "-t", "-f", str(path)], capture_output=True, text=True)
    if checked.returncode != 0:
        raise StepFailed(f"sshd refuses {path}: {checked.stderr.strip()}")
    return [ssh.program, "-D", "-e", "-f", str(path)]


def _write(layout: Layout, text: str) -> Path:
    path = layout.etc / "sshd_config"
    replace_public(path, text)
    return path


def end_with_parent() -> None:
    """The kernel ends us when supervisord is gone, however it went: an orphan would keep the port.

    sshd writes over its environment, by which boot finds the other programs that were left behind.
    """
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(1)


def main() -> None:
    """Environment: the appliance's settings (NAUTILUS_HOME and others)."""
    try:
        argv = prepare(ApplianceSettings.from_environment())
    except ApplianceError as error:
        print(f"sshd: {error}", file=sys.stderr, flush=True)
        raise SystemExit(error.exit_code) from None
    end_with_parent()
    os.execv(argv[0], argv)


if __name__ == "__main__":
    main()
