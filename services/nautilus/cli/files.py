"""nautilus files: look into a run's folder while it runs, and at what it kept afterwards."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import IO, Annotated, Any
from urllib.parse import quote

import typer

from nautilus.cli import following
from nautilus.cli.client import Api, local_api
from nautilus.cli.output import CommandError, emit

app = typer.Typer(no_args_is_help=True)
Run = Annotated[str, typer.Argument(metavar="RUN", help="The experiment's id.")]
File = Annotated[str, typer.Argument(metavar="PATH", help="Below the job's project folder.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
_MARKS = {"folder": "/", "link": "@", "other": "?"}


@app.command("ls")
def list_files(
    run: Run,
    path: Annotated[
        str, typer.Argument(metavar="[PATH]", help="A folder; the project folder otherwise.")
    ] = "",
    as_json: Json = False,
) -> None:
    """What is in a folder of the job, now; of a run that has ended, what its artifacts have there."""
    found = local_api().get(f"/experiments/{run}/files", path=path)
    emit(found, as_json, lambda: _show(found))


@app.command("cat")
def cat(run: Run, path: File) -> None:
    """A file's bytes, as many as it has now, on stdout."""
    _copy(local_api(), run, path, sys.stdout.buffer)


@app.command("tail")
def tail(
    run: Run,
    path: File,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 10,
    byte_count: Annotated[
        int | None, typer.Option("--bytes", "-c", min=0, help="How many of the last bytes instead.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Then what is added, until the job ends.")
    ] = False,
) -> None:
    """A file's end; with --follow what comes after it, as it comes. A file that is cut short is begun anew."""
    tail = following.Tail(local_api(), run, path, sys.stdout.buffer)
    tail.last(lines, byte_count, is_awaited=follow)
    if follow:
        tail.follow()


@app.command("get")
def get(
    run: Run,
    path: File,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to; the file's own name here otherwise.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Copy a file of the job to this machine."""
    target = output or Path(path.rstrip("/").rpartition("/")[2] or "file")
    if target.is_dir():
        target = target / (path.rstrip("/").rpartition("/")[2] or "file")
    if target.exists() and not force:
        raise CommandError(f"{target} is there already: use --force, or --output", 2)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".nautilus-", delete=False) as part:
        try:
            size = _copy(local_api(), run, path, part)
            part.flush()
            Path(part.name).replace(target)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise
    print(f"{target}: {size} bytes")


@app.command("put")
def put(
    run: Run,
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="A file of this machine; - is standard input.")
    ],
    path: Annotated[
        str, typer.Argument(metavar="[PATH]", help="Where in the job's folder; FILE's own name otherwise.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Write a file into the folder of a running job, whole and at once; one of that name is replaced."""
    name = "" if source == "-" else Path(source).name
    target = f"{path}{name}" if path.endswith("/") else path or name
    if not target:
        raise CommandError("PATH is missing: standard input has no name", 2)
    with _opened(source) as content:
        size = content.seek(0, 2)
        content.seek(0)
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        where = address(run, target)
        with local_api().stream("PUT", where, content=content, headers=headers, timeout=600) as answer:
            answer.read()
            made = answer.json()
    emit(made, as_json, lambda: print(f"{made['path']}: {made['size_bytes']} bytes"))


def address(run: str, path: str) -> str:
    """The route of a file."""
    return f"/experiments/{run}/files/{quote(path, safe='/')}"


def _opened(source: str) -> IO[bytes]:
    if source == "-":
        spool = tempfile.TemporaryFile()  # noqa: SIM115 - the caller's `with` closes it
        while data := sys.stdin.buffer.read(1 << 20):
            spool.write(data)
        return spool
    try:
        return Path(source).open("rb")
    except OSError as error:
        raise CommandError(f"{source}: {error.strerror or error}", 2) from error


def _copy(api: Api, run: str, path: str, out: IO[bytes]) -> int:
    """Copy a file whole; how many bytes it had."""
    size = 0
    with api.stream("GET", address(run, path), timeout=60) as answer:
        for part in answer.iter_raw():
            out.write(part)
            size += len(part)
    out.flush()
    return size


def _show(found: dict[str, Any]) -> None:
    for one in found["files"]:
        size = "" if one["size_bytes"] is None else f"{one['size_bytes']}"
        when = (one["modified_at"] or "")[:19].replace("T", " ")
        link = f" -> {one['link']}" if one.get("link") else ""
        print(f"{size:>12}  {when:<19}  {_safe(one['name'])}{_MARKS.get(one['kind'], '')}{_safe(link)}")
    if not found["files"]:
        print("nothing is here" if found["source"] == "live" else "nothing was kept here")
    if found["is_cut"]:
        print("… and more: the folder is too large to list whole")


def _safe(name: str) -> str:
    """A name of the job's that says nothing to a terminal."""
    return "".join(char if char.isprintable() else "�" for char in name)
