"""sshd_config(5) as text, from a typed model. Pure: nobody gets more than one forced command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from nautilus.appliance.errors import StepFailed

_PENALTIES_SINCE = (9, 8)
_OMNIBUS_CHECK = "/opt/gitlab/embedded/service/gitlab-shell/bin/gitlab-shell-authorized-keys-check"


class Keys(Protocol):
    """Who is asked whether a key lets in: a program, its arguments, and as whom it runs."""

    @property
    def user(self) -> str: ...

    def command(self) -> tuple[str, ...]:
        """sshd insists that the first is root's file; `%t %k` and the like are filled in by it."""
        ...


@dataclass(frozen=True)
class ForgeKeys:
    """The embedded forge, by its socket. `shell`: path of `nautilus_forge/git/shell.py`."""

    user: str
    python: str
    shell: str
    socket: str

    def command(self) -> tuple[str, ...]:
        ours = (self.python, "-I", "-S", self.shell, "keys", self.socket)
        return ("/usr/bin/env", "-i", *(word.replace("%", "%%") for word in ours), "%t", "%k")


@dataclass(frozen=True)
class GitLabShellKeys:
    """GitLab's own program. Source: omnibus-gitlab docker/assets/sshd_config."""

    user: str = "git"

    def command(self) -> tuple[str, ...]:
        return (_OMNIBUS_CHECK, "git", "%u", "%k")


@dataclass(frozen=True)
class SshdConfig:
    """`user`: the only one who is let in. `path`: where the forced command finds git. `version`: OpenSSH's."""

    port: int
    addresses: tuple[str, ...]
    user: str
    host_keys: tuple[str, ...]
    keys: Keys
    path: str
    version: tuple[int, int]


def render(config: SshdConfig) -> str:
    """The whole file. Raises StepFailed for a path that it cannot hold."""
    lines = [
        "# Written by Nautilus at every start. One user, keys by the forge, one forced command each.",
        f"Port {config.port}",
        *(f"ListenAddress {address}" for address in config.addresses),
        *(f"HostKey {_word(key)}" for key in config.host_keys),
        "",
        "# Who: one user, by a key that the forge knows.",
        f"AllowUsers {_word(config.user)}",
        "AuthenticationMethods publickey",
        "PubkeyAuthentication yes",
        f"AuthorizedKeysCommand {' '.join(_word(word) for word in config.keys.command())}",
        f"AuthorizedKeysCommandUser {_word(config.keys.user)}",
        *_NOBODY_ELSE,
        "",
        "# What: the forced command of the key. No terminal, no forwarding, no environment of the client's.",
        *_NOTHING_ELSE,
        f"SetEnv PATH={_word(config.path)}",
        "",
        "# Hostile clients: a slow or silent one is dropped soon, many at once are refused before they cost much.",
        *_BOUNDS,
    ]
    if config.version >= _PENALTIES_SINCE:
        lines.append(_PENALTIES)
    return "\n".join(lines) + "\n"


_NOBODY_ELSE = (
    "AuthorizedKeysFile none",
    "AuthorizedPrincipalsFile none",
    "TrustedUserCAKeys none",
    "PasswordAuthentication no",
    "KbdInteractiveAuthentication no",
    "HostbasedAuthentication no",
    "PermitEmptyPasswords no",
    "PermitRootLogin no",
    "UsePAM no",
    "StrictModes yes",
)

_NOTHING_ELSE = (
    "PermitTTY no",
    "DisableForwarding yes",
    "AllowTcpForwarding no",
    "AllowStreamLocalForwarding no",
    "AllowAgentForwarding no",
    "X11Forwarding no",
    "PermitTunnel no",
    "PermitOpen none",
    "PermitListen none",
    "GatewayPorts no",
    "PermitUserRC no",
    "PermitUserEnvironment no",
    "AcceptEnv GIT_PROTOCOL",
    "PrintMotd no",
    "PrintLastLog no",
    "Banner none",
    "VersionAddendum none",
)

_BOUNDS = (
    "LoginGraceTime 30",
    "MaxAuthTries 6",
    "MaxStartups 20:30:100",
    "MaxSessions 10",
    "ClientAliveInterval 30",
    "ClientAliveCountMax 6",
    "TCPKeepAlive yes",
    "Compression no",
    "UseDNS no",
    "PidFile none",
    "SyslogFacility AUTH",
    "LogLevel INFO",
)

_PENALTIES = (
    "PerSourcePenalties crash:60s authfail:1s noauth:0 grace-exceeded:5s refuseconnection:1s max:60s min:20s"
)
"""Milder than OpenSSH's own: behind a proxy or Docker's, a whole team comes from one address, and so do the probes
that connect and say nothing."""


def _word(text: str) -> str:
    """One argument, quoted where it has to be. Source: sshd_config(5), OpenSSH misc.c `argv_split`."""
    if any(char in text for char in '"\\\n\r\0'):
        raise StepFailed(f"sshd_config cannot hold {text!r}: set NAUTILUS_HOME to a path without quotes")
    return f'"{text}"' if not text or any(char in " \t#'" for char in text) else text
