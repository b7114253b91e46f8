"""Joining and leaving a server: what `register`, `verify` and `unregister` do, without the command line around it.

Source: gitlab-runner 19.x `commands/register.go`; GitLab `lib/api/ci/runner.rb`.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from nautilus_runner import config_file
from nautilus_runner.agent import ensure_system_id
from nautilus_runner.client import Coordinator
from nautilus_runner.errors import ConfigurationError, ForbiddenError
from nautilus_runner.settings import RunnerSettings, Settings

AUTHENTICATION_PREFIX = "glrt-"


@dataclass(frozen=True, slots=True)
class Registration:
    """What `register` is told. One of `token` (a runner's own) and `registration_token` is set.

    What can only be said when a registration token makes the runner: `tags` to `maximum_timeout`.
    """

    url: str
    token: str = ""
    registration_token: str = ""
    name: str = ""
    executor: str = "process"
    tags: tuple[str, ...] = ()
    run_untagged: bool | None = None
    is_locked: bool = False
    is_paused: bool = False
    access_level: str = ""
    maximum_timeout: int = 0
    maintenance_note: str = ""
    fields: dict[str, Any] = field(default_factory=dict)  # further keys of [[runners]]
    process: dict[str, Any] = field(default_factory=dict)
    docker: dict[str, Any] = field(default_factory=dict)


async def register(config: Path, wish: Registration) -> RunnerSettings:
    """Register at the server and add the entry to `config`. Raises ConfigurationError, ServerError."""
    if bool(wish.token) == bool(wish.registration_token):
        raise ConfigurationError("give either --token (a runner's, glrt-…) or --registration-token")
    name = wish.name or socket.gethostname()
    system_id = _system_id(config)
    settings = _settings(wish, name, wish.token or "unregistered")
    client = Coordinator(settings, system_id)
    try:
        said = await (client.verify() if wish.token else client.register(_asked(wish, name)))
    finally:
        await client.close()
    token = str(said.get("token") or wish.token)
    if not token or "id" not in said:
        raise ConfigurationError("the server's answer names no runner; is this a GitLab server?")
    fields = {
        "name": name,
        "id": int(said["id"]),
        "url": settings.url,
        "token": token,
        "executor": wish.executor,
        **wish.fields,
    }
    block = config_file.runner_block(fields, {"process": wish.process, "docker": wish.docker})
    return config_file.add_runner(config, block).runners[-1]


async def verify(settings: RunnerSettings, config: Path) -> bool:
    """Whether the server still knows the registration. Raises UnavailableError where it can't be asked."""
    client = Coordinator(settings, _system_id(config))
    try:
        await client.verify()
    except ForbiddenError:
        return False
    finally:
        await client.close()
    return True


async def unregister(config: Path, settings: Settings, name: str, url: str, token: str) -> RunnerSettings:
    """Take a registration back at the server, then remove its entry; one that the server does not know any more
    is only removed. Raises ConfigurationError, ServerError."""
    index, runner = config_file.find_runner(settings, name, url, token)
    client = Coordinator(runner, _system_id(config))
    try:
        await client.unregister()
    except ForbiddenError:
        pass  # it is gone there already
    finally:
        await client.close()
    config_file.remove_runner(config, index)
    return runner


def _asked(wish: Registration, name: str) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "token": wish.registration_token,
        "description": name,
        "run_untagged": not wish.tags if wish.run_untagged is None else wish.run_untagged,
        "locked": wish.is_locked,
        "paused": wish.is_paused,
    }
    if wish.tags:
        asked["tag_list"] = ",".join(wish.tags)
    if wish.access_level:
        asked["access_level"] = wish.access_level
    if wish.maximum_timeout:
        asked["maximum_timeout"] = wish.maximum_timeout
    if wish.maintenance_note:
        asked["maintenance_note"] = wish.maintenance_note
    return asked


def _settings(wish: Registration, name: str, token: str) -> RunnerSettings:
    try:
        return RunnerSettings.model_validate(
            {
                "name": name,
                "url": wish.url,
                "token": SecretStr(token),
                "executor": wish.executor,
                **wish.fields,
            }
        )
    except ValueError as error:
        raise ConfigurationError(str(error)) from error


def _system_id(config: Path) -> str:
    """The one of the service that will use this configuration."""
    try:
        data_dir = config_file_data_dir(config)
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return ensure_system_id(data_dir)
    except OSError as error:
        raise ConfigurationError(f"the data folder can't be written: {error}") from error


def config_file_data_dir(config: Path) -> Path:
    from nautilus_runner.settings import load_settings

    return load_settings(config).data_dir if config.exists() else config.absolute().parent
