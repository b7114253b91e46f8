"""`register`: join a server."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from nautilus_runner.commands.options import Config
from nautilus_runner.errors import ConfigurationError


def add(app: typer.Typer) -> None:
    app.command()(register)


def register(
    config: Config,
    url: Annotated[
        str,
        typer.Option(
            "--url",
            "--server",
            envvar=["NAUTILUS_URL", "CI_SERVER_URL"],
            help="The server: http://HOST:10080",
        ),
    ] = "",
    token: Annotated[
        str,
        typer.Option(envvar=["NAUTILUS_RUNNER_TOKEN", "CI_SERVER_TOKEN"], help="A runner's token (glrt-…)."),
    ] = "",
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="A file with either token; - is standard input.")
    ] = None,
    registration_token: Annotated[
        str,
        typer.Option(
            envvar=["NAUTILUS_REGISTRATION_TOKEN", "REGISTRATION_TOKEN"],
            help="A token to register new runners with.",
        ),
    ] = "",
    name: Annotated[
        str,
        typer.Option(
            "--name", "--description", envvar="NAUTILUS_RUNNER_NAME", help="How this runner is called."
        ),
    ] = "",
    executor: Annotated[str, typer.Option(envvar="NAUTILUS_RUNNER_EXECUTOR", help="process or docker")] = "",
    gpus: Annotated[
        str, typer.Option(envvar="NAUTILUS_RUNNER_GPUS", help="all, none, or some: 0,1. Of this machine.")
    ] = "",
    concurrent: Annotated[
        int,
        typer.Option(
            "--concurrent",
            "--slots",
            envvar="NAUTILUS_RUNNER_CONCURRENT",
            help="Jobs at a time on this machine.",
        ),
    ] = 0,
    non_interactive: Annotated[bool, typer.Option("--non-interactive", "-n", help="Never ask.")] = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait for a server that does not answer yet.")] = 0,
    if_needed: Annotated[
        bool, typer.Option("--if-needed", help="Do nothing where the configuration has this registration.")
    ] = False,
    tag_list: Annotated[
        str,
        typer.Option("--tag-list", "--tags", "--tag", envvar="NAUTILUS_RUNNER_TAGS", help="Comma-separated."),
    ] = "",
    run_untagged: Annotated[bool | None, typer.Option("--run-untagged/--tagged-only")] = None,
    locked: Annotated[bool, typer.Option(help="Only for the project it is registered with.")] = False,
    paused: Annotated[bool, typer.Option(help="Takes no jobs until resumed.")] = False,
    access_level: Annotated[str, typer.Option(help="not_protected or ref_protected")] = "",
    maximum_timeout: Annotated[int, typer.Option(help="Seconds that a job may take at most.")] = 0,
    maintenance_note: Annotated[str, typer.Option(help="Shown to administrators.")] = "",
    clone_url: Annotated[str, typer.Option(help="For git, where it differs from the URL.")] = "",
    tls_ca_file: Annotated[str, typer.Option("--tls-ca-file", help="Certificates to trust.")] = "",
    limit: Annotated[int, typer.Option(help="Jobs of this registration at a time; 0: no bound.")] = 0,
    env: Annotated[list[str] | None, typer.Option("--env", help="KEY=VALUE for every job.")] = None,
    process_user: Annotated[str | None, typer.Option("--process-user", help="Who jobs run as.")] = None,
    docker_image: Annotated[
        str, typer.Option("--docker-image", envvar="NAUTILUS_RUNNER_IMAGE", help="Where the job names none.")
    ] = "",
    docker_host: Annotated[str, typer.Option("--docker-host", help="The daemon, as unix:///…")] = "",
    docker_network: Annotated[str, typer.Option("--docker-network", "--docker-network-mode")] = "",
    docker_pull_policy: Annotated[list[str] | None, typer.Option("--docker-pull-policy")] = None,
) -> None:
    """Join a server and add the registration to the configuration."""
    from nautilus_runner import registration

    is_asking = not non_interactive and sys.stdin.isatty()
    token = _token_from(token_file) if token_file else token
    if not url and is_asking:
        url = typer.prompt("The server's URL (http://HOST:10080)")
    if not url:
        raise ConfigurationError("--url is missing (or NAUTILUS_URL)")
    if not token and not registration_token and is_asking:
        token = typer.prompt("The runner's token (glrt-…) or a registration token", hide_input=True)
    if token and not token.startswith(registration.AUTHENTICATION_PREFIXES) and not registration_token:
        token, registration_token = "", token
    if is_asking:
        name = name or typer.prompt("Its name", default=socket.gethostname())
        if registration_token and not tag_list:
            tag_list = typer.prompt(
                "Its tags, comma-separated (empty: it takes jobs without tags)", default=""
            )
        executor = executor or typer.prompt("Executor (process, docker)", default="process")
        if executor == "docker" and not docker_image:
            docker_image = typer.prompt("The image of jobs that name none", default="python:3.13-slim")
    executor = executor or "process"
    fields: dict[str, Any] = {
        "clone_url": clone_url,
        "tls_ca_file": str(Path(tls_ca_file).absolute()) if tls_ca_file else "",
        "limit": limit,
        "environment": env,
    }
    docker: dict[str, Any] = {
        "image": docker_image,
        "host": docker_host,
        "network": docker_network,
        "pull_policy": docker_pull_policy,
    }
    machine: dict[str, Any] = {"gpus": gpus, "concurrent": concurrent}
    wish = registration.Registration(
        url=url,
        token=token,
        registration_token=registration_token,
        name=name,
        executor=executor,
        tags=tuple(tag.strip() for tag in tag_list.split(",") if tag.strip()),
        run_untagged=run_untagged,
        is_locked=locked,
        is_paused=paused,
        access_level=access_level,
        maximum_timeout=maximum_timeout,
        maintenance_note=maintenance_note,
        machine={key: value for key, value in machine.items() if value},
        fields={key: value for key, value in fields.items() if value},
        process={} if process_user is None else {"user": process_user},
        docker={key: value for key, value in docker.items() if value},
    )
    if if_needed and (known := registration.known(config, wish)) is not None:
        print(f"Registered already as {known.label} (runner {known.id}); {config} serves {known.url}.")
        return
    if if_needed:
        registration.forget(config, url)
    made = asyncio.run(registration.register(config, wish, wait_s=wait))
    print(f"Registered as {made.label} (runner {made.id}); {config} serves {made.url}.")


def _token_from(path: Path) -> str:
    """Raises ConfigurationError."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--token-file {path} can't be read: {error}") from error
    if not text.strip():
        raise ConfigurationError(f"--token-file {path} is empty")
    return text.strip()
