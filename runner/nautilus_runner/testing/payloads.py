"""Jobs as GitLab sends them, with as little said as a test wants to say."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

_ids = itertools.count(101)


def job_payload(
    script: Sequence[str] = ("true",),
    *,
    url: str = "",
    project: str = "group/project",
    sha: str = "",
    ref: str = "main",
    depth: int = 20,
    variables: Sequence[dict[str, Any]] = (),
    after_script: Sequence[str] = (),
    timeout_s: int = 3600,
    **parts: Any,
) -> dict[str, Any]:
    """The 201 body of POST /jobs/request. Without `sha` no sources are fetched. `parts` replace whole keys."""
    number = next(_ids)
    token = f"glcbt-64_{number}-secretjobtoken"
    given = [
        _variable("CI_JOB_ID", str(number)),
        _variable("CI_JOB_TOKEN", token, public=False, masked=True),
        _variable("CI_COMMIT_SHA", sha),
        *([] if sha else [_variable("GIT_STRATEGY", "none")]),
        *variables,
    ]
    steps = [_step("script", script, timeout_s, "on_success")]
    if after_script:
        steps.append(_step("after_script", after_script, timeout_s, "always"))
    host = url.removeprefix("http://")
    refspecs = ["+refs/pipelines/7:refs/pipelines/7", f"+refs/heads/{ref}:refs/remotes/origin/{ref}"]
    return {
        "id": number,
        "token": token,
        "allow_git_fetch": True,
        "job_info": {
            "id": number,
            "name": "build",
            "stage": "test",
            "project_id": 1,
            "project_name": project.rpartition("/")[2],
            "project_full_path": project,
            "project_jobs_running_on_instance_runners_count": "0",
        },
        "git_info": {
            "repo_url": f"http://gitlab-ci-token:{token}@{host}/{project}.git",
            "ref": ref,
            "sha": sha,
            "before_sha": "0" * 40,
            "ref_type": "branch",
            "refspecs": refspecs,
            "depth": depth,
            "repo_object_format": "sha1",
        },
        "runner_info": {"timeout": timeout_s, "runner_session_url": None},
        "variables": given,
        "steps": steps,
        "hooks": [],
        "image": None,
        "services": [],
        "artifacts": None,
        "cache": [],
        "credentials": [],
        "dependencies": [],
        "features": {"trace_sections": True, "token_mask_prefixes": ["glpat-"], "failure_reasons": _REASONS},
        **parts,
    }


def variable(key: str, value: str, **flags: bool) -> dict[str, Any]:
    return _variable(key, value, **flags)


_REASONS = [
    "script_failure",
    "runner_system_failure",
    "job_execution_timeout",
    "image_pull_failure",
    "unknown_failure",
    "runner_configuration_error",
    "runner_interrupted",
    "runner_external_dependency_failure",
]


def _variable(key: str, value: str, **flags: bool) -> dict[str, Any]:
    return {"key": key, "value": value, "public": True, "masked": False, "file": False, "raw": False, **flags}


def _step(name: str, script: Sequence[str], timeout_s: int, when: str) -> dict[str, Any]:
    is_after = name == "after_script"
    return {
        "name": name,
        "script": list(script),
        "timeout": timeout_s,
        "when": when,
        "allow_failure": is_after,
    }
