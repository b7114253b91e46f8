"""Where below the folder of builds a job's project folder lies: its project's path, or GIT_CLONE_PATH.

Source: gitlab-runner 16.11 `common/build.go` (getCustomBuildDir).
"""

from __future__ import annotations

import re

from nautilus_runner.payload import Job
from nautilus_runner.variables import expand

VARIABLE = "GIT_CLONE_PATH"
_BELOW = re.compile(r"\$(?:CI_BUILDS_DIR|\{CI_BUILDS_DIR\})/(.+)", re.DOTALL)


def project_path(job: Job) -> str:
    """Relative, never one that leads out; what GIT_CLONE_PATH says where that makes sense. Pure."""
    return clone_path(job) or job.project_path


def clone_path(job: Job) -> str:
    """What GIT_CLONE_PATH says, below `$CI_BUILDS_DIR`; "" where it says nothing that a job may have."""
    values = {variable.key: variable.value for variable in job.variables}
    found = _BELOW.fullmatch(values.get(VARIABLE, ""))
    if found is None:
        return ""
    parts = [
        part
        for part in expand(found[1], lambda name: values.get(name, "")).split("/")
        if part not in ("", ".")
    ]
    is_plain = parts and not any(part == ".." or part.startswith(".") or "\0" in part for part in parts)
    return "/".join(parts) if is_plain and not parts[-1].endswith(".tmp") else ""


def is_refused(job: Job) -> bool:
    named = [variable.value for variable in job.variables if variable.key == VARIABLE]
    return bool(named and named[-1]) and not clone_path(job)
