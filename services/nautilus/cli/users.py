"""nautilus user: passwords."""

from __future__ import annotations

import secrets
from typing import Annotated

import typer

from nautilus.appliance.accounts import ensure_accounts
from nautilus.appliance.folders import write_private
from nautilus.cli.administration import administration
from nautilus.cli.output import CommandError, emit

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Users of this server."""


@app.command("password")
def password(
    username: Annotated[str, typer.Argument(help="Whose password.")] = "root",
    reset: Annotated[bool, typer.Option("--reset", help="Make a new one.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Show root's first password, or make a new password for anybody with --reset."""
    with administration() as (gitlab, layout, _):
        path = layout.secret("root_password")
        if reset:
            user_id = gitlab.user_id(username)
            if user_id is None:
                raise CommandError(f"there is no user {username!r} on this server", 2)
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
