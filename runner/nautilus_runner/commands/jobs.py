"""`jobs`, `files …`: what runs on this machine, and a look into its folders."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from nautilus_runner.commands.options import AsJson, Config
from nautilus_runner.errors import ControlRefused

Job = Annotated[int, typer.Argument(help="The job's id, as `nautilus-runner jobs` shows it.")]
File = Annotated[str, typer.Argument(metavar="PATH", help="Below the job's project folder.")]
_WAIT_S = 20.0
_LAST_BYTES = 65536
_MARKS = {"folder": "/", "link": "@", "other": "?"}


def add(app: typer.Typer) -> None:
    app.command("jobs")(show_jobs)
    files = typer.Typer(no_args_is_help=True, help="Look into the folder of a job that runs here.")
    files.command("ls")(list_files)
    files.command("cat")(cat)
    files.command("tail")(tail)
    files.command("put")(put)
    app.add_typer(files, name="files")


def show_jobs(config: Config, as_json: AsJson = False) -> None:
    """The jobs that this machine works on, and what they use: now, and at most so far."""
    from nautilus_runner.control_socket import ask_once

    found = ask_once(config, "jobs")["jobs"]
    if as_json:
        print(json.dumps(found))
        return
    for job in found:
        print(
            f"{job['id']}  {job['state']}  {job['duration_s']:.0f} s  {job['project']}: {_safe(job['name'])}"
        )
        if words := _usage(job.get("usage", {})):
            print(f"    {words}")
    if not found:
        print("no job is here")


def list_files(
    config: Config,
    job: Job,
    path: Annotated[
        str, typer.Argument(metavar="[PATH]", help="A folder; the project folder otherwise.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """What is in a folder of the job, now."""
    found = next(_asked(config, job, "list", path))
    if as_json:
        print(json.dumps(found))
        return
    for one in found["items"]:
        size = one["size_bytes"] if one["kind"] == "file" else ""
        link = f" -> {one['link']}" if "link" in one else ""
        print(f"{size:>12}  {_safe(one['name'])}{_MARKS.get(one['kind'], '')}{_safe(link)}")
    if found["is_cut"]:
        print("… and more")


def cat(config: Config, job: Job, path: File) -> None:
    """A file's bytes, as many as it has now."""
    _print(_asked(config, job, "read", path))


def tail(
    config: Config,
    job: Job,
    path: File,
    byte_count: Annotated[int, typer.Option("--bytes", "-c", min=1)] = _LAST_BYTES,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Then what is added, until the job ends.")
    ] = False,
) -> None:
    """A file's end; with --follow what comes after it, as it comes."""
    offset, size = _print(_asked(config, job, "read", path, offset=-byte_count))
    while follow:
        try:
            offset, size = _print(_asked(config, job, "read", path, offset=offset, wait_s=_WAIT_S))
        except ControlRefused:
            if all(one["id"] != job for one in _jobs(config)):
                return
            raise
        if size < offset:
            print(f"nautilus-runner: {path} was cut short: from its beginning", file=sys.stderr)
            offset = 0


def put(
    config: Config,
    job: Job,
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A file of this machine.")],
    path: Annotated[str, typer.Argument(metavar="[PATH]", help="Where in the job's folder.")] = "",
) -> None:
    """Write a small file into the job's folder (`nautilus files put` writes large ones)."""
    from nautilus_runner.live.verbs import WRITE_LIMIT_BYTES

    try:
        content = source.read_bytes()
    except OSError as error:
        raise ControlRefused(f"{source}: {error.strerror or error}") from error
    if len(content) > WRITE_LIMIT_BYTES:
        raise ControlRefused(f"{source} has more than {WRITE_LIMIT_BYTES} bytes: use `nautilus files put`")
    target = path or source.name
    next(_asked(config, job, "write", target, content=base64.b64encode(content).decode()))
    print(f"{target}: {len(content)} bytes")


def _asked(config: Path, job: int, verb: str, path: str, **fields: Any) -> Iterator[dict[str, Any]]:
    from nautilus_runner.control_socket import ask

    return ask(config, "files", 60.0, job=job, path=path, do=verb, **fields)


def _jobs(config: Path) -> list[dict[str, Any]]:
    from nautilus_runner.control_socket import ask_once

    found: list[dict[str, Any]] = ask_once(config, "jobs")["jobs"]
    return found


def _print(answers: Iterator[dict[str, Any]]) -> tuple[int, int]:
    """Print the bytes of a read; where it ended, and the file's size."""
    head = next(answers)
    for part in answers:
        sys.stdout.buffer.write(base64.b64decode(part["bytes"]))
    sys.stdout.buffer.flush()
    return head["offset"] + head["length"], head["item"]["size_bytes"]


def _usage(usage: dict[str, Any]) -> str:
    values = {name: value for name, value in usage.items() if isinstance(value, dict)}
    return ", ".join(f"{name} {value['now']:g} (peak {value['peak']:g})" for name, value in values.items())


def _safe(text: str) -> str:
    """Text of the job's that says nothing to a terminal."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
