"""Settings of the appliance, from the environment. Each is documented in docs/reference/settings.md.

Plain parsing, no library: boot and supervised helpers must start in milliseconds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nautilus.appliance.errors import SettingError
from nautilus.appliance.layout import PROJECT_ROOT, Layout

EXECUTORS = ("auto", "process", "docker")


@dataclass(frozen=True)
class ApplianceSettings:
    """What the user asked for; None means: decide at the first start, then remember (etc/appliance.json).

    Ports are TCP ports (0 to 65535); `listen` is an address; `slots` counts jobs at a time.
    """

    home: Path
    web_port: int | None = None
    management_port: int | None = None
    gitlab_port: int | None = None
    listen: str | None = None
    external_url: str | None = None
    gitlab_external_url: str | None = None
    executor: str = "auto"
    job_image: str | None = None
    slots: int | None = None
    in_image: bool = False

    @property
    def layout(self) -> Layout:
        return Layout(self.home)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> ApplianceSettings:
        """Raises SettingError, naming the variable, its value and what would do."""
        env = os.environ if environ is None else environ
        executor = env.get("NAUTILUS_EXECUTOR", "auto")
        if executor not in EXECUTORS:
            raise SettingError(f"NAUTILUS_EXECUTOR={executor!r}: use one of {', '.join(EXECUTORS)}")
        return cls(
            home=Path(env.get("NAUTILUS_HOME") or PROJECT_ROOT / ".nautilus").expanduser().absolute(),
            web_port=_port(env, "NAUTILUS_PORT"),
            management_port=_port(env, "NAUTILUS_MANAGEMENT_PORT"),
            gitlab_port=_port(env, "NAUTILUS_GITLAB_PORT"),
            listen=env.get("NAUTILUS_LISTEN") or None,
            external_url=_url(env, "NAUTILUS_EXTERNAL_URL"),
            gitlab_external_url=_url(env, "NAUTILUS_GITLAB_EXTERNAL_URL"),
            executor=executor,
            job_image=env.get("NAUTILUS_JOB_IMAGE") or None,
            slots=_count(env, "NAUTILUS_SLOTS"),
            in_image=env.get("NAUTILUS_IN_IMAGE") == "1",
        )


@dataclass(frozen=True)
class PostgresSettings:
    """What the `postgres` program is started with."""

    cluster: Path
    socket_dir: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> PostgresSettings:
        env = os.environ if environ is None else environ
        try:
            return cls(Path(env["PGDATA"]), Path(env["NAUTILUS_POSTGRES_SOCKETS"]))
        except KeyError as missing:
            raise SettingError(f"{missing.args[0]} is not set: start postgres through supervisord") from None


def _port(env: Mapping[str, str], name: str) -> int | None:
    value = _count(env, name)
    if value is not None and not 0 < value < 65536:
        raise SettingError(f"{name}={value}: a port is a number from 1 to 65535")
    return value


def _count(env: Mapping[str, str], name: str) -> int | None:
    text = env.get(name, "").strip()
    if not text:
        return None
    if not text.isdecimal() or int(text) == 0:
        raise SettingError(f"{name}={text!r}: use a whole number above 0")
    return int(text)


def _url(env: Mapping[str, str], name: str) -> str | None:
    text = env.get(name, "").strip().rstrip("/")
    if not text:
        return None
    if not text.startswith(("http://", "https://")) or "@" in text or " " in text:
        raise SettingError(f"{name}={text!r}: use http://HOST[:PORT] or https://HOST[:PORT], without a user")
    if text.count("/") > 2:
        raise SettingError(f"{name}={text!r}: a path below the host is not supported, use the bare address")
    return text
