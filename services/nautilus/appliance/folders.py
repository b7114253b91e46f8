"""The data folder: made, owned, locked by one appliance at a time, with room left on the disk."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from nautilus.appliance.accounts import Accounts
from nautilus.appliance.errors import AlreadyRunning, HomeUnusable
from nautilus.appliance.files import is_held, replace_private
from nautilus.appliance.layout import Layout

LEAST_FREE_MIB = 512
"""Below this the appliance does not start: PostgreSQL must never meet a full disk unprepared."""

_LOCK_FD = 3
"""supervisord closes every descriptor from 5 on at its start, and each child from 3 on: so the lock
lives on 3, as long as supervisord does and no longer."""

SECRETS: dict[str, Callable[[], str]] = {
    "root_password": lambda: secrets.token_urlsafe(15),
    "admin_token": lambda: "glpat-" + secrets.token_urlsafe(24),
    "registration_token": lambda: "GR1348941" + secrets.token_urlsafe(15),
    "forge_secret_key": lambda: secrets.token_urlsafe(48),
    "session_key": lambda: secrets.token_urlsafe(48),
}
"""Name of each generated secret → how it is made. Kept for good once made."""


_ADVICE = {
    0: "give this user write access to it",
    errno.EROFS: "mount it writable (a volume without `:ro`)",
    errno.ENOSPC: "free some space on its disk",
    errno.EDQUOT: "free some space within its quota",
}
"""What to do about an error with the data folder, by errno."""


def ensure_home(layout: Layout, who: Accounts) -> None:
    """Every folder with its owner and mode. Raises HomeUnusable, naming the folder and the way out."""
    private = (layout.secrets, layout.postgres_socket_dir, layout.forge, layout.management, layout.spool)
    passable = (layout.home, layout.run, layout.home / "run", layout.etc, layout.log, layout.tls, layout.acme)
    try:
        for folder in passable:
            _ensure_folder(folder, 0o755, who)
        for folder in private:
            _ensure_folder(folder, 0o700, who)
        _ensure_folder(layout.runner, 0o711, who, owner=who.runner)
        probe = layout.home / f".probe-{os.getpid()}"
        probe.write_bytes(b"nautilus")
        probe.unlink()
    except OSError as error:
        raise HomeUnusable(
            f"the data folder {layout.home} cannot be used ({error.strerror}: {error.filename}): "
            f"{_ADVICE.get(error.errno or 0, _ADVICE[0])}, or set NAUTILUS_HOME to another folder"
        ) from error
    _refuse_full_disk(layout.home)


def ensure_only_one(layout: Layout) -> None:
    """Takes the appliance's lock for this process and what it execs. Raises AlreadyRunning."""
    fd = os.open(layout.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise AlreadyRunning(
            f"an appliance already runs on {layout.home}: use it (`nautilus status`), "
            "end it (`nautilus down`), or set NAUTILUS_HOME to another folder"
        ) from None
    if fd != _LOCK_FD:
        os.dup2(fd, _LOCK_FD, inheritable=True)
        os.close(fd)
    os.set_inheritable(_LOCK_FD, True)


def is_locked(layout: Layout) -> bool:
    """Whether an appliance holds the data folder now."""
    return is_held(layout.lock_file)


def ensure_secrets(layout: Layout, who: Accounts) -> None:
    """Makes each secret that is missing, 0600, whole or not at all."""
    for name, make in SECRETS.items():
        path = layout.secret(name)
        if not path.exists():
            write_private(path, make() + "\n", who)


def write_private(path: Path, text: str, who: Accounts, owner: str | None = None) -> None:
    """Replaces a 0600 file of `owner` (the service user by default) atomically."""
    replace_private(path, text, (owner or who.service) if os.geteuid() == 0 else None)


def _ensure_folder(folder: Path, mode: int, who: Accounts, owner: str | None = None) -> None:
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    status = folder.stat()
    if os.geteuid() == 0 and status.st_uid != pwd.getpwnam(owner or who.service).pw_uid:
        shutil.chown(folder, owner or who.service)
    if status.st_mode & 0o777 != mode:
        folder.chmod(mode)


def _refuse_full_disk(home: Path) -> None:
    free_mib = shutil.disk_usage(home).free // 2**20
    if free_mib < LEAST_FREE_MIB:
        raise HomeUnusable(
            f"only {free_mib} MiB are free below {home}, at least {LEAST_FREE_MIB} are needed: "
            "free some space, or set NAUTILUS_HOME to a folder on another disk"
        )
