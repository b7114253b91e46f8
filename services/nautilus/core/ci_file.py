"""The CI file of an experiment: the one job that GitLab runs on its branch. Pure text, made from the
experiment.

User's text reaches GitLab in two forms only: the command as one line of `script` (GitLab expands nothing
there, the shell reads it), and everything else as data that nothing expands: parameters as base64,
environment variables with `expand: false`. JSON is YAML, so the file is written as JSON.

Source: https://docs.gitlab.com/ci/yaml/ (`variables:expand`, `artifacts:when`, `timeout`),
docs/reference/internals.md.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nautilus.core.command import render_command
from nautilus.core.params import ParamValue
from nautilus.core.retrying import RetryPolicy

DEFAULT_CI_PATH = ".gitlab-ci.yml"
JOB_NAME = "experiment"
METRICS_FILE = "metrics.jsonl"
DEFAULT_ARTIFACTS = ("outputs/",)
RESERVED_VARIABLES = re.compile(r"(CI|GITLAB|NAUTILUS|MLFLOW|GIT|RUNNER|FF)(_.*)?")
"""Names that a run's `env` may not set: GitLab's, the runner's, MLflow's and ours."""

_LINE_WIDTH = 76
_NOT_PLAIN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""What JSON leaves as it is and YAML does not take, or takes as a line's end."""


Wishes = Mapping[str, int | float | str]
"""What is asked of a machine, by the names of `WISH_VARIABLES`; what is not asked for is not in it."""
WISH_VARIABLES = {
    "cpus": "NAUTILUS_CPUS",
    "memory": "NAUTILUS_MEMORY",
    "disk": "NAUTILUS_DISK",
    "shm": "NAUTILUS_SHM",
    "gpus": "NAUTILUS_GPUS",
    "gpu_memory": "NAUTILUS_GPU_MEMORY",
    "gpu_model": "NAUTILUS_GPU_MODEL",
    "gpu_share": "NAUTILUS_GPU_SHARED",
}
"""What our runner reads them by (docs/reference/runner.md); other runners mind the tags alone."""


@dataclass(frozen=True)
class RunSpec:
    """What the CI file is made of. `url` is management's, as jobs reach it; `time_limit_s` is None for
    GitLab's."""

    experiment_id: int
    run_id: str
    project_id: int
    commit_sha: str
    url: str
    command: str
    params: Mapping[str, ParamValue]
    env: Mapping[str, str]
    image: str | None = None
    seed: int | None = None
    time_limit_s: int | None = None
    runner_tags: Sequence[str] = ()
    wishes: Wishes = field(default_factory=dict)
    artifact_paths: Sequence[str] = ()
    retry: RetryPolicy = field(default_factory=RetryPolicy)


def ci_file(spec: RunSpec) -> str:
    """The whole file. Raises InvalidCommand (see render_command)."""
    content = {"stages": [JOB_NAME], JOB_NAME: _job(spec)}
    text = json.dumps(content, ensure_ascii=False, indent=2)
    text = _NOT_PLAIN_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    head = (
        f"# Nautilus experiment {spec.experiment_id}: generated, on a branch that goes when the run ends.\n"
    )
    return head + text + "\n"


def commit_message(spec: RunSpec) -> str:
    """Names the run in a trailer, by which a half-made branch is found again. Holds no text of the user's."""
    return (
        f"Nautilus experiment {spec.experiment_id}\n\n"
        f"{run_trailer(spec.run_id)}\nNautilus-Commit: {spec.commit_sha}\n"
    )


def run_trailer(run_id: str) -> str:
    return f"Nautilus-Run: {run_id}"


def _job(spec: RunSpec) -> dict[str, Any]:
    known = dict(spec.params) if spec.seed is None else {"seed": spec.seed, **spec.params}
    job: dict[str, Any] = {
        "stage": JOB_NAME,
        "variables": _variables(spec),
        "before_script": [_write_params(spec.params)],
        "script": [render_command(spec.command, known)],
        "artifacts": {"paths": _artifact_paths(spec), "when": "always", "expire_in": "never"},
        "interruptible": False,
    }
    if spec.image:
        job["image"] = spec.image
    if spec.time_limit_s is not None:
        job["timeout"] = f"{spec.time_limit_s} seconds"
    if (retry := spec.retry.in_ci()) is not None:
        job["retry"] = retry
    if spec.runner_tags:
        job["tags"] = list(spec.runner_tags)
    return job


def _artifact_paths(spec: RunSpec) -> list[str]:
    return list(dict.fromkeys([*(spec.artifact_paths or DEFAULT_ARTIFACTS), METRICS_FILE]))


def _variables(spec: RunSpec) -> dict[str, Any]:
    own = {
        "MLFLOW_TRACKING_URI": spec.url,
        "MLFLOW_TRACKING_TOKEN": "$CI_JOB_TOKEN",
        "MLFLOW_RUN_ID": spec.run_id,
        "MLFLOW_EXPERIMENT_ID": str(spec.project_id),
        "NAUTILUS_URL": spec.url,
        "NAUTILUS_EXPERIMENT_ID": str(spec.experiment_id),
        "NAUTILUS_COMMIT": spec.commit_sha,
    }
    own |= {WISH_VARIABLES[name]: str(value) for name, value in spec.wishes.items()}
    if spec.seed is not None:
        own["NAUTILUS_SEED"] = str(spec.seed)
    return {**{name: {"value": value, "expand": False} for name, value in spec.env.items()}, **own}


def _write_params(params: Mapping[str, ParamValue]) -> str:
    """Shell that writes the parameters as JSON to the file that NAUTILUS_PARAMS names.

    Base64's alphabet means nothing to a shell, so the here-document holds whatever the values are. The
    first line is what the log shows.
    """
    payload = base64.b64encode(json.dumps(params, ensure_ascii=False).encode()).decode()
    lines = [payload[start : start + _LINE_WIDTH] for start in range(0, len(payload), _LINE_WIDTH)]
    return "\n".join(
        [
            "# Nautilus: writes this run's parameters to $NAUTILUS_PARAMS",
            'export NAUTILUS_PARAMS="$PWD/.nautilus/params.json"',
            'mkdir -p "$PWD/.nautilus"',
            "base64 -d > \"$NAUTILUS_PARAMS\" <<'NAUTILUS_END'",
            *lines,
            "NAUTILUS_END",
        ]
    )
