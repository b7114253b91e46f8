"""nautilus database: reading the experiments' database by TCP, when NAUTILUS_DATABASE_ACCESS=readonly."""

from __future__ import annotations

from typing import Annotated

import typer

from nautilus.appliance.layout import Layout
from nautilus.appliance.plan import Plan, read_plan
from nautilus.appliance.settings import ApplianceSettings
from nautilus.cli.output import CommandError, emit

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
app = typer.Typer(no_args_is_help=True)
access = typer.Typer(invoke_without_command=True)
app.add_typer(access, name="access", help="The read-only way in by TCP: its connection line, a new password.")


@app.callback()
def _group() -> None:
    """The database of experiments and tracking."""


@access.callback()
def _access(context: typer.Context, as_json: Json = False) -> None:
    """The read-only way in by TCP; alone, the same as `show`."""
    if context.invoked_subcommand is None:
        show(as_json)


@access.command("show")
def show(as_json: Json = False) -> None:
    """Print the connection line, password included. Exit code 6 where the access is off."""
    layout, plan = _opened()
    _print(layout, plan, as_json)


@access.command("reset")
def reset(as_json: Json = False) -> None:
    """Make a new password, end the connections of the old one, and print the new line."""
    import psycopg

    from nautilus.appliance import database_access, reading
    from nautilus.appliance.accounts import ensure_accounts

    layout, plan = _opened()
    try:
        with psycopg.connect(database_access.owner_conninfo(layout), autocommit=True) as connection:
            password = database_access.ensure_password(layout, ensure_accounts(), anew=True)
            reading.set_password(connection, password)
    except psycopg.OperationalError as error:
        raise CommandError("PostgreSQL does not answer: `nautilus status` tells", 6) from error
    _print(layout, plan, as_json)


def _opened() -> tuple[Layout, Plan]:
    layout = ApplianceSettings.from_environment().layout
    plan = read_plan(layout.appliance_file)
    if plan is None or "database" not in plan.ports:
        raise CommandError(
            "PostgreSQL is on no TCP port: set NAUTILUS_DATABASE_ACCESS=readonly and restart", 6
        )
    return layout, plan


def _print(layout: Layout, plan: Plan, as_json: bool) -> None:
    from nautilus.appliance.database_access import connection_fields, readable_password

    try:
        fields = connection_fields(layout, plan) | {"password": readable_password(layout)}
    except PermissionError as error:
        raise CommandError(
            f"{error.filename} is not yours: run this as the appliance's operator", 4
        ) from error
    line = " ".join(f"{name}={value}" for name, value in fields.items())
    emit({"line": line, **fields}, as_json, lambda: print(line))
