"""nautilus user: who may sign in, and passwords."""

from __future__ import annotations

import secrets
import sys
from typing import Annotated, Any

import typer

from nautilus.appliance.accounts import ensure_accounts
from nautilus.appliance.folders import write_private
from nautilus.cli import ssh_keys
from nautilus.cli.administration import administration, id_of_user
from nautilus.cli.output import CommandError, emit

app = typer.Typer(no_args_is_help=True)
app.add_typer(ssh_keys.app, name="key", help="The SSH keys of a user.")
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Username = Annotated[str, typer.Argument(metavar="NAME", help="The user's name, as he signs in.")]
_KEPT = ("id", "username", "name", "email", "state", "is_admin", "created_at", "last_activity_on")


@app.callback()
def _group() -> None:
    """Users of this server."""


@app.command("create")
def create(
    username: Username,
    email: Annotated[str, typer.Option("--email", help="His address.")],
    name: Annotated[str, typer.Option("--name", help="His full name; the user name when left out.")] = "",
    admin: Annotated[bool, typer.Option("--admin", help="An administrator.")] = False,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a user; without --password-stdin a password is made too, and shown this once."""
    given = _password_from_stdin() if password_stdin else None
    with administration() as (gitlab, _, _):
        password = given or secrets.token_urlsafe(15)
        made = gitlab.make_user(username, email, name or username, password, admin)
    body: dict[str, Any] = {"id": made["id"], "user": made["username"], "email": email, "admin": admin}
    if given is None:
        body["password"] = password
    emit(body, as_json, lambda: _show_created(body))


@app.command("list")
def list_users(as_json: Json = False) -> None:
    """The users of this server."""
    with administration() as (gitlab, _, _):
        found = [{key: user.get(key) for key in _KEPT} for user in gitlab.users()]
    emit(found, as_json, lambda: _show_users(found))


@app.command("block")
def block(username: Username, as_json: Json = False) -> None:
    """Let a user no longer sign in, push or use tokens; what is his stays."""
    with administration() as (gitlab, _, _):
        gitlab.block_user(id_of_user(gitlab, username))
    emit({"user": username, "state": "blocked"}, as_json, lambda: print(f"{username} is blocked."))


@app.command("unblock")
def unblock(username: Username, as_json: Json = False) -> None:
    """Let a blocked user in again."""
    with administration() as (gitlab, _, _):
        gitlab.unblock_user(id_of_user(gitlab, username))
    emit({"user": username, "state": "active"}, as_json, lambda: print(f"{username} may sign in again."))


@app.command("password")
def password(
    username: Annotated[str, typer.Argument(help="Whose password.")] = "root",
    reset: Annotated[bool, typer.Option("--reset", help="Make a new one.")] = False,
    as_json: Json = False,
) -> None:
    """Show root's first password, or make a new password for anybody with --reset."""
    with administration() as (gitlab, layout, _):
        path = layout.secret("root_password")
        if reset:
            user_id = id_of_user(gitlab, username)
            new = secrets.token_urlsafe(15)
            gitlab.set_password(user_id, new)
            if username == "root":
                write_private(path, new + "\n", ensure_accounts())
        elif username == "root":
            new = path.read_text().strip()
        else:
            raise CommandError(
                f"only root's password is kept: `nautilus user password {username} --reset` makes a new one",
                2,
            )
    emit({"user": username, "password": new}, as_json, lambda: print(new))


def _password_from_stdin() -> str:
    """One line; its end is not part of the password."""
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise CommandError("--password-stdin: no password came on standard input", 2)
    return line


def _show_created(body: dict[str, Any]) -> None:
    print(f"{body['user']} ({body['email']}) may sign in{' as an administrator' if body['admin'] else ''}.")
    if "password" in body:
        print(f"password (shown this once): {body['password']}")


def _show_users(found: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from nautilus.cli.tables import wide_console

    table = Table(box=None, pad_edge=False)
    for name in ("id", "user", "name", "email", "state", "role"):
        table.add_column(name)
    for u in found:
        role = "administrator" if u["is_admin"] else ""
        table.add_row(str(u["id"]), u["username"], u["name"], u["email"] or "", u["state"], role)
    wide_console().print(table)
