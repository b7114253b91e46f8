"""A whole appliance, booted by `demo` in a fresh data folder, shared by the acceptance tests."""

import subprocess
from collections.abc import Iterator

import pytest

from nautilus.testing.command_line import Appliance, CommandLine, fresh_home


@pytest.fixture(scope="session")
def appliance() -> Iterator[Appliance]:
    cli = CommandLine(fresh_home())
    try:
        yield Appliance(cli, cli.json("demo"))
    finally:
        cli.run("down")
        subprocess.run(["rm", "-rf", str(cli.home)], check=False)
