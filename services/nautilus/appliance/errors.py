"""Errors of the appliance's own doings (boot, ports, processes), as one line that says what to do.

ApplianceError
├── SettingError        a setting cannot be used
├── PortTaken           a port that must be ours is taken
├── HomeUnusable        the data folder cannot be written, is full, or belongs to another
├── AlreadyRunning      another appliance runs on the same data folder
├── NotRunning          no appliance runs on this data folder
├── PostgresUnusable    no usable PostgreSQL, or the cluster is of another major version
├── WrongEdition        the data is of the other edition, or of another PostgreSQL
├── MissingProgram      a program that we need is not installed
├── RegistryFailed      something of the container registry could not be done
├── TransferFailed      an export or import did not succeed; nothing is left half done
├── StepFailed          a provision step did not succeed
└── NotReady            the appliance did not become ready in time
"""

from __future__ import annotations


class ApplianceError(Exception):
    """Base. `str()` is the line for the user; `exit_code` is documented in docs/reference/cli.md."""

    exit_code = 1


class SettingError(ApplianceError):
    exit_code = 2


class PortTaken(ApplianceError):
    exit_code = 3


class HomeUnusable(ApplianceError):
    exit_code = 4


class AlreadyRunning(ApplianceError):
    exit_code = 5


class NotRunning(ApplianceError):
    exit_code = 6


class PostgresUnusable(ApplianceError):
    exit_code = 7


class WrongEdition(ApplianceError):
    exit_code = 7


class MissingProgram(ApplianceError):
    exit_code = 8


class RegistryFailed(ApplianceError):
    exit_code = 1


class TransferFailed(ApplianceError):
    exit_code = 1


class StepFailed(ApplianceError):
    exit_code = 9


class NotReady(ApplianceError):
    exit_code = 10
