"""The commands that repeat an experiment, ready to paste into a shell. Pure."""

from __future__ import annotations

import json
import shlex
from typing import Any

from nautilus.core.ci_file import WISH_VARIABLES
from nautilus.experiments.schemas import ExperimentView


def nautilus_run(experiment: ExperimentView) -> str:
    """`nautilus run …` at the pinned commit."""
    lines = [
        ["nautilus", "run", experiment.command],
        ["--project", experiment.project.path_with_namespace],
        ["--ref", experiment.commit_sha],
    ]
    if experiment.name != f"run-{experiment.id}":
        lines.append(["--name", experiment.name])
    lines += [["--param", f"{key}={_value(value)}"] for key, value in experiment.params.items()]
    if experiment.image:
        lines.append(["--image", experiment.image])
    if experiment.seed is not None:
        lines.append(["--seed", str(experiment.seed)])
    asked = ((name, experiment.resources.get(name)) for name in WISH_VARIABLES)
    lines += [[f"--{name.replace('_', '-')}", str(value)] for name, value in asked if value is not None]
    return " \\\n  ".join(shlex.join(line) for line in lines)


def curl(experiment: ExperimentView, external_url: str) -> str:
    """The same over the API, with the token in $NAUTILUS_TOKEN."""
    body: dict[str, Any] = {
        "project": experiment.project.path_with_namespace,
        "ref": experiment.commit_sha,
        "command": experiment.command,
        "name": None if experiment.name == f"run-{experiment.id}" else experiment.name,
        "params": dict(experiment.params),
        "image": experiment.image,
        "seed": experiment.seed,
        "resources": dict(experiment.resources),
        "tags": experiment.tags,
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
