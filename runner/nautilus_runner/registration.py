"""Joining and leaving a server: what `register`, `verify` and `unregister` do, without the command line around it.

Source: gitlab-runner 19.x `commands/register.go`; GitLab `lib/api/ci/runner.rb`.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from nautilus_runner import config_file
from nautilus_runner.client import Coordinator
from nautilus_runner.errors import ConfigurationError, ForbiddenError, ServerError, UnavailableError
from nautilus_runner.settings import RunnerSettings, Settings, load_settings
from nautilus_runner.system_id import ensure_system_id

AUTHENTICATION_PREFIXES = ("glrt-", "glrtr-")
"""Of a runner's own token; glrtr- where a registration token made the runner."""
_TRY_EVERY_S = 1.0
_NOT_GITLAB = (301, 302, 303, 307, 308, 401, 404, 405, 501)


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
    machine: dict[str, Any] = field(default_factory=dict)  # keys of the file itself: gpus, concurrent
    fields: dict[str, Any] = field(default_factory=dict)  # further keys of [[runners]]
    process: dict[str, Any] = field(default_factory=dict)
    docker: dict[str, Any] = field(default_factory=dict)


def known(config: Path, wish: Registration) -> RunnerSettings | None:
    """The entry that `config` has for this server already: with that token, where it is a runner's own."""
    url = wish.url.rstrip("/")
    for runner in load_settings(config, {}).runners if config.exists() else ():
        if runner.url == url and wish.token in ("", runner.token.get_secret_value()):
            return runner
    return None


def forget(config: Path, url: str) -> None:
    """Remove what `config` has for this server: its token has been replaced by another."""
    wanted = url.rstrip("/")
    while config.exists():
        urls = [runner.url for runner in load_settings(config, {}).runners]
        if wanted not in urls:
            return
        config_file.remove_runner(config, urls.index(wanted))


async def register(config: Path, wish: Registration, wait_s: float = 0.0) -> RunnerSettings:
    """Register at the server and add the entry to `config`; for `wait_s` seconds a server that does not answer is
    asked again. Raises ConfigurationError, ServerError."""
    if bool(wish.token) == bool(wish.registration_token):
        raise ConfigurationError("give either --token (a runner's, glrt-…) or --registration-token")
    name = wish.name or socket.gethostname()
    system_id = _system_id(config)
    settings = _settings(wish, name, wish.token or "unregistered")
    client = Coordinator(settings, system_id)
    try:
        said = await _persistently(client, wish, name, wait_s)
    except ServerError as error:
        raise _explained(error, settings.url) from error
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
    return config_file.add_runner(config, block, wish.machine).runners[-1]


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


async def _persistently(
    client: Coordinator, wish: Registration, name: str, wait_s: float
) -> Mapping[str, Any]:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return await (client.verify() if wish.token else client.register(_asked(wish, name)))
        except UnavailableError:
            if time.monotonic() >= deadline:
                raise
            await asyncio.sleep(min(_TRY_EVERY_S, wait_s))


def _explained(error: ServerError, url: str) -> ServerError:
    """The same error, with a hint where the address is wrong rather than the token."""
    if error.status in _NOT_GITLAB:
        return type(error)(
            f"{url} does not speak GitLab's runner API (it answered {error.status}): give the server's address, "
            "as http://HOST:10080",
            error.status,
        )
    return error


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
    return load_settings(config).data_dir if config.exists() else config.absolute().parent
