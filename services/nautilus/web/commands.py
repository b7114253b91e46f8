"""The commands that repeat an experiment, ready to paste into a shell. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any, Protocol


class Repeatable(Protocol):
    """What is needed of an experiment to run it again."""

    @property
    def project_path(self) -> str: ...
    @property
    def commit_sha(self) -> str: ...
    @property
    def command(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def params(self) -> Mapping[str, Any]: ...
    @property
    def env(self) -> Mapping[str, str]: ...
    @property
    def image(self) -> str | None: ...
    @property
    def seed(self) -> int | None: ...
    @property
    def resources(self) -> Mapping[str, Any]: ...
    @property
    def tags(self) -> list[str]: ...


def nautilus_run(experiment: Repeatable) -> str:
    """`nautilus run …` at the pinned commit."""
    lines = [
        ["nautilus", "run", experiment.command],
        ["--project", experiment.project_path],
        ["--ref", experiment.commit_sha],
        ["--name", experiment.name],
    ]
    lines += [["--param", f"{key}={_value(value)}"] for key, value in experiment.params.items()]
    lines += [["--env", f"{key}={value}"] for key, value in experiment.env.items()]
    if experiment.image:
        lines.append(["--image", experiment.image])
    if experiment.seed is not None:
        lines.append(["--seed", str(experiment.seed)])
    return " \\\n  ".join(shlex.join(line) for line in lines)


def curl(experiment: Repeatable, external_url: str) -> str:
    """The same over the API, with the token in $NAUTILUS_TOKEN."""
    body: dict[str, Any] = {
        "project": experiment.project_path,
        "ref": experiment.commit_sha,
        "command": experiment.command,
        "name": experiment.name,
        "params": dict(experiment.params),
        "image": experiment.image,
        "seed": experiment.seed,
        "resources": dict(experiment.resources),
        "tags": experiment.tags,
        "env": dict(experiment.env),
    }
    text = json.dumps(
        {key: value for key, value in body.items() if value not in (None, {}, [])}, ensure_ascii=False
    )
    return (
        f"curl --fail-with-body {shlex.quote(external_url + '/api/v1/experiments')} \\\n"
        '  --header "Authorization: Bearer $NAUTILUS_TOKEN" \\\n'
        "  --header 'Content-Type: application/json' \\\n"
        f"  --data {shlex.quote(text)}"
    )


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
