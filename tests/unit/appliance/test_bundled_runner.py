"""The appliance's own runner is registered once, whichever program serves it, and paused while it is off."""

from __future__ import annotations

import getpass
import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nautilus.appliance import bundled_runner
from nautilus.appliance.accounts import Accounts
from nautilus.appliance.bundled_runner import ensure_bundled_runner, own_ids
from nautilus.appliance.executor import Choice
from nautilus.appliance.layout import Layout
from nautilus.appliance.plan import Plan, make_plan
from nautilus.appliance.settings import ApplianceSettings
from nautilus.gitlab.provisioning import MadeRunner, RunnerWish

GPUS = [{"uuid": f"GPU-{name}", "name": "H200", "memory_mib": 143771} for name in ("aa", "bb")]


class FakeGitLab:
    """The rows of `/runners`, as far as provision looks at them."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, Any]] = {}
        self._last = 0

    def make_runner(self, wish: RunnerWish) -> MadeRunner:
        self._last += 1
        self.rows[self._last] = {"description": wish.description, "tags": wish.tags, "paused": False}
        return MadeRunner(self._last, f"glrt-{self._last}")

    def is_runner_token_valid(self, token: str) -> bool:
        return int(token.removeprefix("glrt-")) in self.rows

    def runner(self, runner_id: int) -> dict[str, Any] | None:
        return self.rows.get(runner_id)

    def pause_runner(self, runner_id: int, paused: bool) -> None:
        self.rows[runner_id]["paused"] = paused

    @property
    def paused(self) -> dict[int, bool]:
        return {runner_id: row["paused"] for runner_id, row in self.rows.items()}


class Machine:
    def __init__(self, home: Path) -> None:
        self.layout = Layout(home)
        for folder in (self.layout.secrets, self.layout.runner):
            folder.mkdir()
        me = getpass.getuser()
        self.who = Accounts(me, me, "")
        self.gitlab = FakeGitLab()
        docker = Choice("docker", "", "nautilus-job", "", ("nautilus:172.17.0.1",), "nautilus", "")
        self.plan: Plan = make_plan(ApplianceSettings(home=home, in_image=True, slots=2), None, docker)

    def start(self, mode: str) -> None:
        plan = replace(self.plan, bundled_runner=mode)
        ensure_bundled_runner(self.gitlab, self.layout, plan, self.who)  # type: ignore[arg-type]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(bundled_runner, "find_gpus", lambda: GPUS)
    return Machine(tmp_path)


def token_in(path: Path) -> list[str]:
    return [entry["token"] for entry in tomllib.loads(path.read_text())["runners"]]


def test_a_second_start_is_the_same_runner(machine: Machine) -> None:
    machine.start("nautilus")
    machine.start("nautilus")
    assert list(machine.gitlab.rows) == [1]
    assert machine.gitlab.rows[1]["tags"] == ("docker", "local-docker")
    assert own_ids(machine.layout) == {1}


def test_off_pauses_it_and_on_again_it_is_the_same(machine: Machine) -> None:
    machine.start("nautilus")
    machine.start("off")
    assert machine.gitlab.paused == {1: True}
    machine.start("nautilus")
    assert machine.gitlab.paused == {1: False}
    assert token_in(machine.layout.runner_config) == ["glrt-1"]


def test_off_from_the_first_start_makes_none(machine: Machine) -> None:
    machine.start("off")
    assert machine.gitlab.rows == {}


def test_what_an_administrator_paused_stays_paused(machine: Machine) -> None:
    machine.start("nautilus")
    machine.gitlab.pause_runner(1, True)
    machine.start("off")
    machine.start("nautilus")
    assert machine.gitlab.paused == {1: True}


def test_a_stock_runner_is_the_same_row_and_one_more_for_each_gpu(machine: Machine) -> None:
    machine.start("nautilus")
    machine.start("gitlab")
    machine.start("gitlab")
    assert token_in(machine.layout.stock_runner_config) == ["glrt-1", "glrt-2", "glrt-3"]
    assert [machine.gitlab.rows[n]["tags"] for n in (2, 3)] == [("gpu",), ("gpu",)]
    machine.start("nautilus")
    assert machine.gitlab.paused == {1: False, 2: True, 3: True}
    machine.start("gitlab")
    assert machine.gitlab.paused == {1: False, 2: False, 3: False}


def test_a_gpu_that_is_gone_pauses_its_row(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.start("gitlab")
    monkeypatch.setattr(bundled_runner, "find_gpus", lambda: GPUS[1:])
    machine.start("gitlab")
    assert machine.gitlab.paused == {1: False, 2: True, 3: False}
    assert token_in(machine.layout.stock_runner_config) == ["glrt-1", "glrt-3"]


def test_a_row_that_somebody_removed_is_made_anew(machine: Machine) -> None:
    machine.start("nautilus")
    del machine.gitlab.rows[1]
    machine.start("nautilus")
    assert list(machine.gitlab.rows) == [2] and own_ids(machine.layout) == {2}


def test_a_removed_row_is_no_trouble_for_off(machine: Machine) -> None:
    machine.start("nautilus")
    del machine.gitlab.rows[1]
    machine.start("off")
    assert own_ids(machine.layout) == set()


def test_a_runner_of_an_earlier_version_is_kept(machine: Machine) -> None:
    machine.start("nautilus")
    machine.layout.secret("runners.json").unlink()
    machine.start("nautilus")
    assert list(machine.gitlab.rows) == [1]


def test_tokens_are_for_their_owners_alone(machine: Machine) -> None:
    machine.start("gitlab")
    for path in (machine.layout.secret("runners.json"), machine.layout.stock_runner_config):
        assert path.stat().st_mode & 0o777 == 0o600
    assert "glrt" not in repr(bundled_runner.read_identities(machine.layout))
    assert json.loads((machine.layout.runner / "gpus.json").read_text()) == GPUS
