"""Every setting, command, signal and failure reason of the runner is documented."""

from __future__ import annotations

from pathlib import Path

import pytest

from nautilus_runner.causes import Cause
from nautilus_runner.cli import app
from nautilus_runner.errors import FailureReason
from nautilus_runner.isolation_settings import BuildSettings
from nautilus_runner.limit_settings import CapacitySettings, KindSettings, LimitSettings
from nautilus_runner.other_workers import KNOWN
from nautilus_runner.settings import DockerSettings, ProcessSettings, RunnerSettings, Settings
from nautilus_runner.storage_settings import DataSettings, DiskSettings, S3Settings, StoreSettings

PAGE = (Path(__file__).parents[3] / "docs/reference/runner.md").read_text()
LIMITS_PAGE = (Path(__file__).parents[3] / "docs/reference/runner-limits.md").read_text()
UNREPORTED = {FailureReason.CANCELED}
STORAGE = [BuildSettings, DataSettings, DiskSettings, S3Settings, StoreSettings]


@pytest.mark.parametrize("model", [Settings, RunnerSettings, ProcessSettings, DockerSettings, *STORAGE])
def test_every_setting_is_documented(model: type) -> None:
    fields = set(model.model_fields) - {"runners", "process", "docker"}  # type: ignore[attr-defined]
    assert [name for name in sorted(fields) if f"`{name}`" not in PAGE] == []


@pytest.mark.parametrize("model", [CapacitySettings, KindSettings, LimitSettings])
def test_every_limit_and_cause_is_documented(model: type) -> None:
    fields = set(model.model_fields) - {"limits"}  # type: ignore[attr-defined]
    words = [*sorted(fields), *Cause]
    assert [word for word in words if f"`{word}`" not in LIMITS_PAGE] == []


def test_every_command_is_documented() -> None:
    names = [c.name or c.callback.__name__ for c in app.registered_commands if c.callback]
    for group in app.registered_groups:
        commands = group.typer_instance.registered_commands if group.typer_instance else []
        names += [f"{group.name} {c.name or c.callback.__name__}" for c in commands if c.callback]
    assert [name for name in names if f"nautilus-runner {name}" not in PAGE] == []


def test_every_variable_of_other_workers_is_documented() -> None:
    assert [name for name in KNOWN if f"`{name}`" not in PAGE] == []


def test_every_option_of_register_is_documented() -> None:
    import typer.main

    command = typer.main.get_command(app).commands["register"]  # type: ignore[attr-defined]
    options = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
    undocumented = [
        o for o in options if f"`{o}" not in PAGE and f"/{o}" not in PAGE and f" {o} " not in PAGE
    ]
    assert set(undocumented) <= {"--description", "--tags", "--config", "--docker-network-mode"}


def test_every_failure_reason_that_is_sent_is_documented() -> None:
    assert [r for r in FailureReason if r not in UNREPORTED and f"`{r.value}`" not in PAGE] == []
