"""The runner as a unit of systemd. Pure: text from values.

Jobs outlive a restart of the service, so only its main process is killed (KillMode=process), and what would hold for
the jobs as well (their folders, their users, their devices) is not restricted: process jobs are its children.
"""

from __future__ import annotations

from dataclasses import dataclass

UNIT = "nautilus-runner.service"


@dataclass(frozen=True)
class Unit:
    """`program` starts the runner; `data_dir` and `config` are absolute."""

    program: tuple[str, ...]
    config: str
    data_dir: str
    has_docker: bool = False
    is_user: bool = False


def unit_text(unit: Unit) -> str:
    after = "network-online.target" + (" docker.service" if unit.has_docker and not unit.is_user else "")
    words = " ".join(_quoted(word) for word in (*unit.program, "run", "--config", unit.config))
    wanted = "default.target" if unit.is_user else "multi-user.target"
    lines = [
        "[Unit]",
        "Description=Nautilus runner",
        "Documentation=man:systemd.service(5)",
        *(() if unit.is_user else ("Wants=network-online.target", f"After={after}")),
        "",
        "[Service]",
        f"ExecStart={words}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        f"WorkingDirectory={_escaped(unit.data_dir)}",
        "# jobs go on while the service restarts, and are found again",
        "KillMode=process",
        "TimeoutStopSec=30",
        "Restart=always",
        "RestartSec=5",
        "# control groups of the jobs' own; as many processes as they have",
        *(() if unit.is_user else ("Delegate=yes", "TasksMax=infinity")),
        "LimitNOFILE=65536",
        "UMask=0077",
        *_hardening(unit.is_user),
        "",
        "[Install]",
        f"WantedBy={wanted}",
    ]
    return "\n".join(lines) + "\n"


def _hardening(is_user: bool) -> tuple[str, ...]:
    """What costs jobs nothing: they inherit all of it."""
    if is_user:
        return ("NoNewPrivileges=yes",)
    return (
        "ProtectClock=yes",
        "ProtectHostname=yes",
        "ProtectKernelLogs=yes",
        "ProtectKernelModules=yes",
        "RestrictRealtime=yes",
        "LockPersonality=yes",
    )


def _quoted(word: str) -> str:
    """A word of ExecStart=. Source: systemd.service(5), "Command lines"; `%` and `$` are doubled."""
    text = _escaped(word).replace("$", "$$")
    if text and not any(char in text for char in " \t\"'\\;"):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _escaped(text: str) -> str:
    return text.replace("%", "%%")
