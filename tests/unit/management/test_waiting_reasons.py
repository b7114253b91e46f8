"""Why runs wait: each queue (the tags that a run's runner must have) is looked at by itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from nautilus.core.states import ExperimentState
from nautilus.experiments.waiting import WaitingReasons
from nautilus.gitlab.port import Runner


class Account:
    """Two runners: one without tags, one for GPUs that is away."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    async def runners(self, tags: Sequence[str] = ()) -> list[Runner]:
        self.asked.append(tuple(tags))
        found = [
            (Runner(1, "plain", "instance_type", "online", False, True), set()),
            (Runner(2, "gpu", "instance_type", "offline", False, True), {"gpu"}),
        ]
        return [runner for runner, has in found if set(tags) <= has]


def waiting(number: int, *tags: str) -> Any:
    return SimpleNamespace(
        id=number,
        state=ExperimentState.QUEUED,
        launch_started_at=datetime.now(UTC),
        resources={"runner_tags": list(tags)} if tags else {},
    )


async def test_each_queue_has_its_own_reason_and_its_own_order() -> None:
    account = Account()
    found = [waiting(1), waiting(2, "gpu"), waiting(3, "gpuu"), waiting(4)]
    said = await WaitingReasons().refresh(account, found)  # type: ignore[arg-type]
    assert said[1] == "waiting for a runner"
    assert said[2] == "none of the runners with the tag gpu is online"
    assert said[3].startswith("no runner has the tag gpuu")
    assert said[4] == "waiting for a runner: 1 run is before it"


async def test_a_queue_is_asked_for_once_in_a_while() -> None:
    account, reasons = Account(), WaitingReasons()
    for _ in range(3):
        await reasons.refresh(account, [waiting(1), waiting(2, "gpu")])  # type: ignore[arg-type]
    assert account.asked == [(), ("gpu",)]
