"""What images this machine's administrator lets jobs use, and how they may be had.

Source: gitlab-runner 16.11 `common/allowed_images.go`, `executors/docker/internal/pull/manager.go`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from nautilus_runner.errors import JobMisconfigured, PathError
from nautilus_runner.files import patterns
from nautilus_runner.settings import DockerSettings


def policies(asked: Sequence[str], settings: DockerSettings) -> tuple[str, ...]:
    """The pull policies to try, in order: the job's where it names some. Raises JobMisconfigured for one that is not
    allowed: with `never` a job would get what another pulled with its own login, with `always` the disk is filled."""
    allowed = settings.allowed_pull_policies or settings.pull_policy
    refused = [policy for policy in asked if policy not in allowed]
    if refused:
        raise JobMisconfigured(
            f"pull_policy {_listed(asked)} of the job is not one of those that this runner allows "
            f"({_listed(allowed)}): leave it out, or have allowed_pull_policies changed"
        )
    return tuple(asked) or settings.pull_policy


def check(image: str, allowed: Collection[str], own: Collection[str], key: str) -> None:
    """Raises JobMisconfigured where `allowed` (globs; none: everything) and `own` (what the runner itself names) lack
    the image. `key` is the setting's name."""
    if allowed and image not in own and not any(_matches(image, glob) for glob in allowed):
        raise JobMisconfigured(f"{image} is not among the {key} of this runner: {_listed(allowed)}")


def _matches(image: str, glob: str) -> bool:
    try:
        return patterns.compiled(glob).match(image) is not None
    except PathError:
        return False


def _listed(names: Collection[str]) -> str:
    return ", ".join(names) or "none"
