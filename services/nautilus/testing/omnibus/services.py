"""The stand-in's services: the forge for Puma, Sidekiq and Gitaly; git; nginx on Workhorse's socket."""

from __future__ import annotations

import dataclasses
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from nautilus.appliance.omnibus.package import Omnibus
from nautilus.appliance.rendering import git_http_backend
from nautilus_gateway.appliance import Ports, appliance_config
from nautilus_gateway.model import GatewayConfig, Proxy
from nautilus_gateway.render import render

_PORT = 10080
"""Stands in the rendered file only until the socket takes its place."""


def data(package: Omnibus) -> Path:
    return package.var / "stand-in"


def write(package: Omnibus, config: dict[str, Any], account: str | None) -> None:
    home = data(package)
    for folder in (home, home / "run", home / "forge", home / "spool", home / "log"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if account:
            shutil.chown(folder, account, account)
    _secrets(home, config["gitlab_rails"], account)
    (home / "nginx.conf").write_text(_nginx(home, config, account))
    commands = {
        "puma": _forge(home, config),
        "gitaly": _git(home),
        "gitlab-workhorse": _workhorse(home, package),
    }
    package.services.mkdir(parents=True, exist_ok=True)
    for name, command in commands.items():
        _service(package.services / name, command, account)


def _service(folder: Path, command: str, account: str | None) -> None:
    text = f"#!/bin/sh\nexec 2>&1\n{command}\n"
    run = folder / "run"
    folder.mkdir(exist_ok=True)
    if run.exists() and run.read_text() != text:
        (folder / "restart").touch()
    run.write_text(text)
    run.chmod(0o755)
    if account:
        (folder / "account").write_text(account)


def _secrets(home: Path, rails: dict[str, Any], account: str | None) -> None:
    """First boot only: what GitLab seeds its empty database with."""
    given = {
        "root_password": rails.get("initial_root_password"),
        "registration_token": rails.get("initial_shared_runners_registration_token"),
        "secret_key": "stand-in-" + "0" * 40,
    }
    for name, value in given.items():
        path = home / name
        if value is not None and not path.exists():
            path.touch(mode=0o600)
            path.write_text(f"{value}\n")
            if account:
                shutil.chown(path, account, account)


def _forge(home: Path, config: dict[str, Any]) -> str:
    rails = config["gitlab_rails"]
    url = f"postgresql+psycopg://{rails['db_username']}@/{rails['db_database']}?host={rails['db_host']}"
    settings = {
        "FORGE_DATABASE_URL": url,
        "FORGE_SOCKET": home / "run" / "forge.sock",
        "FORGE_DATA_DIR": home / "forge",
        "FORGE_SPOOL_DIR": home / "spool",
        "FORGE_EXTERNAL_URL": config["external_url"],
        "FORGE_SSH_HOST": rails["gitlab_ssh_host"],
        "FORGE_SSH_PORT": rails["gitlab_shell_ssh_port"],
        "FORGE_ROOT_PASSWORD_FILE": home / "root_password",
        "FORGE_ADMIN_TOKEN_FILE": home / "admin_token",
        "FORGE_REGISTRATION_TOKEN_FILE": home / "registration_token",
        "FORGE_SECRET_KEY_FILE": home / "secret_key",
    }
    said = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in settings.items())
    return f"exec env {said} {shlex.quote(sys.executable)} -m nautilus_forge"


def _git(home: Path) -> str:
    socket = shlex.quote(str(home / "run" / "git.sock"))
    fcgiwrap = shutil.which("fcgiwrap", path="/usr/sbin:/usr/bin:/sbin:/bin") or "fcgiwrap"
    return (
        f"rm -f {socket}\n"
        f"exec env GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null HOME={shlex.quote(str(home))} "
        f"{fcgiwrap} -f -c 4 -s unix:{socket}"
    )


def _workhorse(home: Path, package: Omnibus) -> str:
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin") or "nginx"
    log, conf = shlex.quote(str(home / "log" / "nginx-error.log")), shlex.quote(str(home / "nginx.conf"))
    return (
        f"rm -f {shlex.quote(str(package.workhorse_socket))}\n"
        f"exec {nginx} -e {log} -c {conf} -g 'daemon off;'"
    )


def _nginx(home: Path, config: dict[str, Any], account: str | None) -> str:
    """The lite gateway's GitLab port, on Workhorse's socket."""
    whole = appliance_config(
        home,
        home / "run",
        ports=Ports(gitlab=_PORT),
        user="root" if os.geteuid() == 0 and account is None else "",
        git_http_backend=git_http_backend(),
        access_log="",
    )
    listener = next(one for one in whole.listeners if one.name == "gitlab")
    routes = tuple(
        route
        for route in listener.routes
        if not (isinstance(route, Proxy) and route.upstream.name == "management")
    )
    alone: GatewayConfig = dataclasses.replace(
        whole,
        listeners=(dataclasses.replace(listener, routes=routes),),
        error_log=str(home / "log" / "nginx-error.log"),
    )
    return render(alone).replace(
        f"listen 127.0.0.1:{_PORT}", f"listen unix:{config['gitlab_workhorse']['listen_addr']}"
    )
