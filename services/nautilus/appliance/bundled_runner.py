"""The appliance's own runner at GitLab: registered once, the same one whichever program serves it.

What GitLab gave us is kept in HOME/secrets/runners.json. While NAUTILUS_BUNDLED_RUNNER=off its row at GitLab is
paused; one that an administrator paused is left so. A stock gitlab-runner has one row more for each GPU, since it
counts `limit` by token (gitlab-runner `commands/builds_helper.go`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nautilus.appliance.accounts import Accounts
from nautilus.appliance.errors import StepFailed
from nautilus.appliance.folders import write_private
from nautilus.appliance.layout import Layout
from nautilus.appliance.plan import Plan
from nautilus.appliance.rendering import runner_configuration
from nautilus.appliance.stock_runner import GpuEntry, stock_runner_configuration

if TYPE_CHECKING:
    from nautilus.gitlab.provisioning import Administration

BUNDLED = "bundled"
_TAGS = ("docker", "local-docker")
_GPU_TAGS = ("gpu",)
_GPU_PATIENCE_S = 120.0
"""The first container with a GPU of a machine may take long: the driver wakes up."""


@dataclass(frozen=True)
class Identity:
    """One runner of ours at GitLab. `is_off`: we paused it, not an administrator."""

    id: int
    token: str = field(repr=False)
    is_off: bool = False


def own_ids(layout: Layout) -> set[int]:
    """The ids at GitLab of the runners that this appliance serves itself."""
    return {identity.id for identity in read_identities(layout).values()}


def read_identities(layout: Layout) -> dict[str, Identity]:
    """By name: `bundled`, and a GPU's UUID for each entry of a stock runner. Raises PermissionError."""
    try:
        stored = json.loads(layout.secret("runners.json").read_text())
        return {name: Identity(**values) for name, values in stored.items()}
    except (FileNotFoundError, ValueError, TypeError):
        return _of_an_earlier_version(layout)


def ensure_bundled_runner(gitlab: Administration, layout: Layout, plan: Plan, who: Accounts) -> None:
    """One runner, registered once; its configuration follows the plan at every start."""
    gpus = find_gpus() if plan.bundled_runner == "gitlab" else []
    served = set() if plan.bundled_runner == "off" else {BUNDLED, *(gpu["uuid"] for gpu in gpus)}
    after = read_identities(layout)
    if BUNDLED in served:
        after = _with(gitlab, after, BUNDLED, _TAGS, run_untagged=True)
    for index, gpu in enumerate(gpus):
        name = _gpu_runner(index)
        after = _with(gitlab, after, gpu["uuid"], _GPU_TAGS, run_untagged=False, description=name)
    after = _without(gitlab, after, served)
    _keep(layout, after, who)
    if plan.bundled_runner == "gitlab":
        _write_stock(layout, plan, who, after, gpus)
    elif plan.bundled_runner == "nautilus":
        own = after[BUNDLED]
        text = runner_configuration(layout, plan, who, own.token, own.id)
        _write(layout, layout.runner_config.name, text, who)


def _gpu_runner(index: int) -> str:
    """What a GPU's own entry of a stock runner is called, here and at GitLab."""
    return f"{BUNDLED}-gpu-{index}"


def find_gpus() -> list[dict[str, Any]]:
    """This machine's GPUs, as our runner finds them: `{"uuid", "name", "memory_mib"}` each. Raises StepFailed."""
    argv = [sys.executable, "-m", "nautilus_runner", "gpus", "--json"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_GPU_PATIENCE_S)
    except subprocess.TimeoutExpired as error:
        raise StepFailed(f"looking for GPUs took more than {_GPU_PATIENCE_S:.0f} s") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise StepFailed(f"looking for GPUs did not succeed: {last}")
    return [dict(gpu) for gpu in json.loads(done.stdout)]


def _with(
    gitlab: Administration,
    known: dict[str, Identity],
    name: str,
    tags: tuple[str, ...],
    *,
    run_untagged: bool,
    description: str = BUNDLED,
) -> dict[str, Identity]:
    """The runner is at GitLab, and not paused by us."""
    from nautilus.gitlab.provisioning import RunnerWish

    own = known.get(name)
    if own is None or not gitlab.is_runner_token_valid(own.token):
        made = gitlab.make_runner(RunnerWish(description, tags, run_untagged))
        own = Identity(made.id, made.token)
    elif own.is_off:
        gitlab.pause_runner(own.id, False)
        own = replace(own, is_off=False)
    return known | {name: own}


def _without(gitlab: Administration, known: dict[str, Identity], kept: set[str]) -> dict[str, Identity]:
    """The others are paused; one that is gone at GitLab is forgotten."""
    after = dict(known)
    for name, own in known.items():
        if name in kept or own.is_off:
            continue
        row = gitlab.runner(own.id)
        if row is None:
            del after[name]
        elif not row.get("paused"):
            gitlab.pause_runner(own.id, True)
            after[name] = replace(own, is_off=True)
    return after


def _keep(layout: Layout, identities: dict[str, Identity], who: Accounts) -> None:
    path = layout.secret("runners.json")
    text = json.dumps({name: asdict(own) for name, own in identities.items()}) + "\n"
    if not path.exists() or path.read_text() != text:
        write_private(path, text, who)


def _write_stock(
    layout: Layout, plan: Plan, who: Accounts, identities: dict[str, Identity], gpus: list[dict[str, Any]]
) -> None:
    own = identities[BUNDLED]
    entries = [
        GpuEntry(_gpu_runner(index), gpu["uuid"], identities[gpu["uuid"]].id, identities[gpu["uuid"]].token)
        for index, gpu in enumerate(gpus)
    ]
    _write(layout, "gpus.json", json.dumps(gpus) + "\n", who)
    text = stock_runner_configuration(plan, own.token, own.id, entries)
    _write(layout, layout.stock_runner_config.name, text, who)


def _write(layout: Layout, name: str, text: str, who: Accounts) -> None:
    path = layout.runner / name
    if not path.exists() or path.read_text() != text:
        write_private(path, text, who, owner=who.runner)


def _of_an_earlier_version(layout: Layout) -> dict[str, Identity]:
    """Before runners.json the token stood in our runner's configuration alone."""
    try:
        entry = tomllib.loads(layout.runner_config.read_text()).get("runners", [{}])[0]
    except (FileNotFoundError, ValueError, IndexError):
        return {}
    token, runner_id = entry.get("token", ""), entry.get("id", 0)
    return {BUNDLED: Identity(runner_id, token)} if token and runner_id else {}
