"""A run of a job's container that is found again: whether its script ever began."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nautilus_runner import shell
from nautilus_runner.executors.container_output import ContainerOutput
from nautilus_runner.executors.container_runs import ContainerRuns


class Daemon:
    """Knows one container, by its state."""

    def __init__(self, **state: Any) -> None:
        self.state = state
        self.calls: list[str] = []

    def inspect_container(self, container: str) -> dict[str, Any]:
        return {"State": self.state}

    def kill(self, container: str) -> None:
        self.calls.append(f"kill {container}")


@pytest.mark.parametrize(
    ("state", "has_begun"),
    [
        ({"Running": False, "Status": "created", "ExitCode": 0}, False),  # written down while it was to start
        ({"Running": False, "Status": "exited", "ExitCode": shell.NEVER_BEGAN}, False),
        ({"Running": False, "Status": "exited", "ExitCode": 0}, True),
        ({"Running": False, "Status": "exited", "ExitCode": 1}, True),
    ],
)
async def test_what_printed_nothing_is_told_by_its_state(
    state: dict[str, Any], has_begun: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ContainerOutput, "has_any", lambda self: False)
    monkeypatch.setattr(ContainerOutput, "follow", lambda self: None)
    daemon = Daemon(**state)
    runs = ContainerRuns(daemon, tmp_path)
    handle = {"number": 0, "container": "c", "skip": {"out": 0, "err": 0}, "owner": [0, 0]}
    assert await runs.found_again(handle) is has_begun
    assert daemon.calls == ([] if has_begun else ["kill c"])
