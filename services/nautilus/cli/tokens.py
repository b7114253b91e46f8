"""nautilus token: personal access tokens, for python-gitlab, git, mlflow and the API."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import typer

from nautilus.cli.administration import administration, id_of_user
from nautilus.cli.output import CommandError, emit

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Personal access tokens."""


@app.command("create")
def create(
    name: Annotated[str, typer.Option("--name", help="What it is for.")] = "command line",
    user: Annotated[str, typer.Option("--user", help="Whose token.")] = "root",
    scopes: Annotated[str, typer.Option("--scopes", help="Separated by commas.")] = "api",
    expires: Annotated[str, typer.Option("--expires", help="Days from today, or a date YYYY-MM-DD.")] = "30",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Make a personal access token; it is shown this once."""
    wanted = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    with administration() as (gitlab, _, _):
        made = gitlab.make_token(id_of_user(gitlab, user), name, wanted, _expiry(expires))
    body = {"token": made["token"], "scopes": made["scopes"], "expires_at": made["expires_at"]}
    emit(body, as_json, lambda: print(body["token"]))


def _expiry(text: str) -> str:
    if text.isdecimal():
        return (datetime.now(UTC).date() + timedelta(days=int(text))).isoformat()
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise CommandError(
            f"--expires {text!r}: use a number of days or a date such as 2027-01-31", 2
        ) from None
