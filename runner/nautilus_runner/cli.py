"""The `nautilus-runner` command line. Exit status: 0 done, 1 refused or not running, 2 wrong use or configuration."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from nautilus_runner import __version__, status
from nautilus_runner.errors import ConfigurationError, RunnerError
from nautilus_runner.settings import Settings, default_config, load_settings

app = typer.Typer(
    help="Runs the jobs of a GitLab or Nautilus server on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Config = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
_DEFAULT = default_config()


def main() -> None:
    """Entry point: errors of ours are one line, unless NAUTILUS_RUNNER_DEBUG is set."""
    try:
        app()
    except RunnerError as error:
        if os.environ.get("NAUTILUS_RUNNER_DEBUG"):
            raise
        print(f"nautilus-runner: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigurationError) else 1)


@app.command()
def run(config: Config = _DEFAULT) -> None:
    """Serve: take jobs until told to end (SIGTERM leaves jobs running, SIGQUIT ends them)."""
    from nautilus_runner import service

    service.main(["run", "--config", str(config)])


@app.command()
def register(
    config: Config = _DEFAULT,
    url: Annotated[
        str, typer.Option(envvar=["NAUTILUS_URL", "CI_SERVER_URL"], help="The server: http://HOST:10080")
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
        int, typer.Option(envvar="NAUTILUS_RUNNER_CONCURRENT", help="Jobs at a time on this machine.")
    ] = 0,
    non_interactive: Annotated[bool, typer.Option("--non-interactive", "-n", help="Never ask.")] = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait for a server that does not answer yet.")] = 0,
    if_needed: Annotated[
        bool, typer.Option("--if-needed", help="Do nothing where the configuration has this registration.")
    ] = False,
    tag_list: Annotated[
        str, typer.Option("--tag-list", "--tags", envvar="NAUTILUS_RUNNER_TAGS", help="Comma-separated.")
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
    if not token and not registration_token and is_asking:
        token = typer.prompt("The runner's token (glrt-…) or a registration token", hide_input=True)
    if not executor:
        executor = typer.prompt("Executor (process, docker)", default="process") if is_asking else "process"
    if not url:
        raise ConfigurationError("--url is missing (or NAUTILUS_URL)")
    if token and not token.startswith(registration.AUTHENTICATION_PREFIX) and not registration_token:
        token, registration_token = "", token
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


@app.command("list")
def list_runners(config: Config = _DEFAULT, as_json: AsJson = False) -> None:
    """The registrations in the configuration."""
    settings = load_settings(config)
    rows = [
        {"name": r.name, "id": r.id, "url": r.url, "executor": r.executor, "token": f"{r.short_token}…"}
        for r in settings.runners
    ]
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        print("  ".join(f"{key}={value}" for key, value in row.items()))


@app.command()
def verify(config: Config = _DEFAULT, as_json: AsJson = False) -> None:
    """Ask each server whether it still knows this runner; status 1 where one does not."""
    from nautilus_runner import registration

    settings = load_settings(config)
    rows = []
    for runner in settings.runners:
        is_known = asyncio.run(registration.verify(runner, config))
        rows.append({"name": runner.name, "url": runner.url, "is_valid": is_known})
        if not as_json:
            print(f"{runner.label} at {runner.url}: {'is valid' if is_known else 'is not known any more'}")
    if as_json:
        print(json.dumps(rows))
    if not all(row["is_valid"] for row in rows):
        raise typer.Exit(1)


@app.command()
def unregister(
    config: Config = _DEFAULT,
    name: Annotated[str, typer.Option()] = "",
    url: Annotated[str, typer.Option()] = "",
    token: Annotated[str, typer.Option(envvar="CI_SERVER_TOKEN")] = "",
) -> None:
    """Leave a server and remove the registration from the configuration."""
    from nautilus_runner import registration

    settings = load_settings(config)
    gone = asyncio.run(registration.unregister(config, settings, name, url, token))
    print(f"{gone.label} has left {gone.url}.")


@app.command("status")
def show_status(config: Config = _DEFAULT, as_json: AsJson = False) -> None:
    """What the running service does; status 1 where none runs."""
    path = _status_file(load_settings(config), config)
    found = status.read_status(path)
    is_running = bool(found and found["is_running"])
    if as_json:
        print(json.dumps(found or {"is_running": False, "state": "down", "reason": f"{path} is not there"}))
    elif found is None or not is_running:
        print(f"not running ({path} is {'stale' if found else 'not there'})")
    else:
        slots = found["slots"]
        print(f"{found['state']}, pid {found['pid']}, {slots['busy']} of {slots['total']} slots busy")
        if found["reason"]:
            print(found["reason"])
        for job in found["jobs"]:
            print(f"  job {job['id']}: {job['state']} since {job['started_at']}")
    if not is_running:
        raise typer.Exit(1)


@app.command("gpus")
def show_gpus(
    docker_host: Annotated[str, typer.Option("--docker-host", help="The daemon to ask.")] = "",
    as_json: AsJson = False,
) -> None:
    """The GPUs of this machine, by the driver; in a container without it, by a probe container."""
    from nautilus_runner.executors.gpu_probe import find_all

    found = [gpu.as_json() for gpu in find_all(docker_host)]
    if as_json:
        print(json.dumps(found))
        return
    for gpu in found:
        print(f"{gpu['uuid']}  {gpu['name']}  {gpu['memory_mib']} MiB")
    if not found:
        print("no GPUs were found")


@app.command()
def version() -> None:
    """The version."""
    print(f"nautilus-runner {__version__}")


def _token_from(path: Path) -> str:
    """Raises ConfigurationError."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--token-file {path} can't be read: {error}") from error
    if not text.strip():
        raise ConfigurationError(f"--token-file {path} is empty")
    return text.strip()


def _status_file(settings: Settings, config: Path) -> Path:
    return settings.status_file or config.absolute().parent / "status.json"
