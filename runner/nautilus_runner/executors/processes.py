"""Processes by identity (number and start time, never the number alone), and accounts."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nautilus_runner.errors import JobMisconfigured

MARKER = "NAUTILUS_JOB_KEY"


@dataclass(frozen=True, slots=True)
class Identity:
    """A process that can't be mistaken for a later one of the same number."""

    pid: int
    start_time: int  # clock ticks since boot
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> Identity:
        """Raises ProcessLookupError where there is none."""
        return cls(pid, start_time(pid), boot_id())

    def is_alive(self) -> bool:
        try:
            return self.boot_id == boot_id() and start_time(self.pid) == self.start_time
        except ProcessLookupError:
            return False

    def open(self) -> int | None:
        """A pidfd of exactly this process; None when it is gone. Raises OSError where the kernel has no pidfd."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        if self.is_alive():
            return fd
        os.close(fd)
        return None

    def send(self, number: int) -> None:
        """Signal it, if it still is that process."""
        try:
            fd = self.open()
        except OSError:
            if self.is_alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, number)
            return
        if fd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, number)
            os.close(fd)


def start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat. A zombie counts as gone. Raises ProcessLookupError."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessLookupError(pid) from error
    fields = stat.rpartition(b")")[2].split()
    if fields[0] in (b"Z", b"X"):
        raise ProcessLookupError(pid)
    return int(fields[19])


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


@dataclass(frozen=True, slots=True)
class Account:
    """Who a job runs as; `uid` None: as ourselves."""

    name: str
    uid: int | None
    gid: int | None


def account_of(user: str) -> Account:
    """The account for `runners.process.user`. Raises JobMisconfigured where root is told a user that is not there."""
    if os.geteuid() != 0 or not user:
        try:
            name = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:
            name = str(os.geteuid())
        return Account(name, None, None)
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise JobMisconfigured(f"there is no user {user!r} on this machine to run jobs as") from error
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def can_reach(folder: Path, account: Account) -> bool:
    """Whether the account may pass through all folders down to `folder`."""
    if account.uid is None:
        return True
    for step in (folder, *folder.parents):
        try:
            info = step.stat()
        except FileNotFoundError:
            continue
        bit = 0o100 if info.st_uid == account.uid else 0o010 if info.st_gid == account.gid else 0o001
        if not info.st_mode & bit:
            return False
    return True


def marked(key: str) -> Iterator[int]:
    """Processes whose environment still says that they are of this job."""
    wanted = f"{MARKER}={key}".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                environment = (folder / "environ").read_bytes()
            except OSError:
                continue
            if wanted in environment.split(b"\0"):
                yield int(folder.name)
