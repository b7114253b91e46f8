"""Git over SSH with a key and known hosts of the runner's own: mounted files, named in the configuration.

The key never leaves its file: ssh gets the path. No agent, no configuration of a user's, no unknown host.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from nautilus_runner.errors import SourceRefused

_SCP = re.compile(r"(?:(?P<user>\w[\w.-]*)@)?(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*):(?P<path>[^\s]+)")
_URL = re.compile(
    r"ssh://(?:(?P<user>\w[\w.-]*)@)?(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:]+\])(?::(?P<port>\d{1,5}))?"
    r"/(?P<path>[^\s]+)"
)
_UNKNOWN_HOST = "Host key verification failed"
_REFUSED_KEY = ("Permission denied (", "Load key")


@dataclass(frozen=True, slots=True)
class SshAddress:
    """`ssh://user@host:port/path`; `port` 0: ssh's own."""

    user: str
    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        port = f":{self.port}" if self.port else ""
        return f"ssh://{self.user}@{self.host}{port}/{self.path}"


@dataclass(frozen=True, slots=True)
class SshAccess:
    """The files that a `[[runners]]` entry names; empty: none."""

    key_file: str = ""
    known_hosts_file: str = ""

    def command(self) -> str:
        """What git runs as ssh (GIT_SSH_COMMAND). Pure."""
        options = {
            "IdentityFile": self.key_file,
            "UserKnownHostsFile": self.known_hosts_file,
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "BatchMode": "yes",
            "ForwardAgent": "no",
            "ClearAllForwardings": "yes",
            "PermitLocalCommand": "no",
            "UpdateHostKeys": "no",
            "ConnectTimeout": "15",
            "ServerAliveInterval": "15",
            "LogLevel": "ERROR",
        }
        words = ["ssh", "-F", "/dev/null", "-a", "-x"]
        for name, value in options.items():
            words += ["-o", f"{name}={_quoted(value)}"]
        return shlex.join(words)

    def check(self, address: SshAddress) -> None:
        """Raises SourceRefused, saying what to set, where a fetch by SSH can't go well."""
        if not self.key_file or not self.known_hosts_file:
            raise SourceRefused(
                f"{address.url} wants SSH, and this runner has no key for it: set ssh_key_file and "
                "ssh_known_hosts_file of its [[runners]] entry, or use an https or relative address"
            )
        if shutil.which("ssh") is None:
            raise SourceRefused(
                f"{address.url} wants SSH, and this machine has no ssh: install openssh-client"
            )
        for name, path in (("ssh_key_file", self.key_file), ("ssh_known_hosts_file", self.known_hosts_file)):
            try:
                info = Path(path).stat()
                os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            except OSError as error:
                raise SourceRefused(f"{name} {path} can't be read: {error.strerror}") from error
            if name == "ssh_key_file" and stat.S_IMODE(info.st_mode) & 0o077:
                raise SourceRefused(
                    f"ssh_key_file {path} is open to others ({stat.S_IMODE(info.st_mode):04o}): chmod 600 it"
                )

    def explained(self, said: str, address: SshAddress) -> str:
        """What to do about an error of ssh's; what it said, where that is clear enough."""
        if _UNKNOWN_HOST in said:
            port = f"-p {address.port} " if address.port else ""
            return (
                f"the host key of {address.host} is not the one in ssh_known_hosts_file {self.known_hosts_file}, "
                f"or not in it: compare `ssh-keyscan {port}{address.host}` with what its administrator says, and add it"
            )
        if any(words in said for words in _REFUSED_KEY):
            return f"{address.host} does not let ssh_key_file {self.key_file} read {address.path}"
        return said


def ssh_address(url: str) -> SshAddress | None:
    """A `ssh://` or `user@host:path` address taken apart; None for anything else."""
    if url.startswith("ssh://"):
        found = _URL.fullmatch(url)
    elif "://" in url or url.startswith(("-", "/", ".")):
        found = None
    else:
        found = _SCP.fullmatch(url)
    if found is None:
        return None
    parts = found.groupdict()
    port = int(parts.get("port") or 0)
    path = parts["path"].lstrip("/")
    if not path or path.startswith("-") or "::" in url or port > 65535:
        return None
    return SshAddress(parts["user"] or "git", parts["host"], port, path)


def _quoted(value: str) -> str:
    """As ssh's own configuration reads a value: `%` and quotes are special to it."""
    return '"' + value.replace("%", "%%") + '"' if value.startswith("/") else value
