"""Puts the commands together and turns every error into one line and a documented exit code."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from nautilus.appliance.errors import ApplianceError
from nautilus.cli import (
    appliance_commands,
    config,
    database,
    demo,
    doctor,
    experiments,
    files,
    registry,
    runner,
    testing,
    tokens,
    transfer,
    users,
)
from nautilus.cli.output import CommandError, fail

_USAGE_ERROR: Any = typer.BadParameter.__mro__[2]
"""Base of all that can be wrong with a command line; typer gives it no public name."""

app = typer.Typer(
    name="nautilus",
    help="Nautilus: Git, CI, experiments, tracking and runners on your own machines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("up")(appliance_commands.up)
app.command("down")(appliance_commands.down)
app.command("status")(appliance_commands.status)
app.command("logs")(appliance_commands.logs)
app.command("restart")(appliance_commands.restart)
app.command("doctor")(doctor.doctor)
app.command("export")(transfer.export)
app.command("import")(transfer.import_)
app.command("run")(experiments.run)
app.command("test", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
    testing.run_tests
)
app.command(
    "bench",
    hidden=True,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)(testing.run_bench)
app.command("boot", hidden=True)(appliance_commands.boot_command)
app.command("healthcheck", hidden=True)(appliance_commands.healthcheck)
app.add_typer(config.app, name="config", help="Settings: show, check, set; the own CA's certificate.")
app.add_typer(database.app, name="database", help="Reading the database by TCP, where that is switched on.")
app.add_typer(experiments.app, name="experiments", help="List, show and cancel experiments.")
app.add_typer(files.app, name="files", help="Files of a run: look into its job while it runs.")
app.add_typer(runner.app, name="runner", help="The registration token; the runners that joined.")
app.add_typer(registry.app, name="registry", help="The container registry's storage.")
app.add_typer(users.app, name="user", help="Users and their passwords.")
app.add_typer(tokens.app, name="token", help="Personal access tokens.")


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Print tracebacks.")] = False,
) -> None:
    """Options of all commands; --debug is read in main()."""


def main() -> None:
    debug = "--debug" in sys.argv[1:2]
    try:
        app(standalone_mode=False, prog_name="nautilus")
    except (ApplianceError, CommandError) as error:
        fail(error, error.exit_code, debug)
    except KeyboardInterrupt as error:
        fail(CommandError("interrupted"), 130, debug) if not debug else fail(error, 130, debug)
    except SystemExit:
        raise
    except Exception as error:
        _fail_unexpected(error, debug)


def _fail_unexpected(error: Exception, debug: bool) -> None:
    if isinstance(error, typer.Abort):
        fail(CommandError("interrupted"), 130, debug)
    if isinstance(error, _USAGE_ERROR):
        error.show()
        raise SystemExit(2)
    fail(
        CommandError(
            f"{type(error).__name__}: {error} (run again with `nautilus --debug …` for the traceback)"
        ),
        1,
        debug,
    )
