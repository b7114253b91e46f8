"""nautilus user key: the SSH keys of a user."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from nautilus.cli.administration import administration, id_of_user
from nautilus.cli.output import CommandError, emit

app = typer.Typer(no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
User = Annotated[str, typer.Option("--user", metavar="NAME", help="Whose keys.")]
_LONGEST_FILE = 16384


@app.callback()
def _group() -> None:
    """SSH keys, for Git without a password."""


@app.command("add")
def add(
    file: Annotated[
        str, typer.Argument(metavar="FILE|-", help="A public key (….pub); - reads standard input.")
    ],
    user: User = "root",
    title: Annotated[
        str, typer.Option("--title", help="What it is called; the key's own comment when left out.")
    ] = "",
    expires: Annotated[
        str, typer.Option("--expires", metavar="YYYY-MM-DD", help="From this day on it lets nobody in.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Let a user in by this key."""
    key = _public_key(file)
    named = title or " ".join(key.split()[2:]) or key.split()[0]
    with administration() as (gitlab, _, _):
        made = gitlab.add_key(id_of_user(gitlab, user), named, key, expires or None)
    shown = _shown(made)
    emit(shown, as_json, lambda: print(f"key {shown['id']} ({shown['fingerprint']}) lets {user} in."))


@app.command("list")
def list_keys(user: User = "root", as_json: Json = False) -> None:
    """The keys of a user."""
    with administration() as (gitlab, _, _):
        found = [_shown(key) for key in gitlab.keys_of(id_of_user(gitlab, user))]
    emit(found, as_json, lambda: _show(found))


@app.command("remove")
def remove(
    key_id: Annotated[int, typer.Argument(metavar="ID", help="The key's number, as `list` prints it.")],
    user: User = "root",
    as_json: Json = False,
) -> None:
    """Let nobody in by this key any more."""
    with administration() as (gitlab, _, _):
        user_id = id_of_user(gitlab, user)
        if key_id not in [key["id"] for key in gitlab.keys_of(user_id)]:
            raise CommandError(
                f"{user} has no key {key_id}: `nautilus user key list --user {user}` shows his", 2
            )
        gitlab.remove_key(user_id, key_id)
    emit({"id": key_id, "user": user}, as_json, lambda: print(f"key {key_id} lets nobody in any more."))


def _public_key(file: str) -> str:
    """The one line of the file. A private key is never read further than to see that it is one."""
    try:
        text = sys.stdin.read(_LONGEST_FILE) if file == "-" else Path(file).read_text()[:_LONGEST_FILE]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise CommandError(f"{file} cannot be read: {reason}", 2) from error
    if "PRIVATE KEY-----" in text:
        raise CommandError(
            f"{file} is the private key, which stays with its owner: give the one in {file}.pub", 2
        )
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) != 1:
        raise CommandError(f"{file} holds {len(lines)} lines: give a file with one public key", 2)
    return lines[0]


def _shown(key: dict[str, Any]) -> dict[str, Any]:
    from nautilus.gitlab.entities import ssh_key_of

    read = ssh_key_of(key)
    return {
        "id": read.id,
        "title": read.title,
        "type": read.kind,
        "fingerprint": read.fingerprint,
        "usage_type": read.usage_type,
        "created_at": key.get("created_at"),
        "expires_at": key.get("expires_at"),
        "last_used_at": key.get("last_used_at"),
    }


def _show(found: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from nautilus.cli.tables import wide_console

    table = Table(box=None, pad_edge=False)
    for name in ("id", "title", "type", "fingerprint", "last used", "expires"):
        table.add_column(name)
    for key in found:
        days = [(key[name] or "")[:10] for name in ("last_used_at", "expires_at")]
        table.add_row(
            str(key["id"]), key["title"], key["type"], key["fingerprint"], days[0] or "never", days[1]
        )
    wide_console().print(table)
