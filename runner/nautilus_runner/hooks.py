"""A job's hooks: commands of the project's around getting the sources.

They run where the job's scripts run, never beside the runner. The sources are the runner's to fetch, in a folder that
no job has written, so both hooks have their turn when that is done, in their order, before `script`.
Source: gitlab-runner 16.11 `shells/abstract.go` (guardGetSourcesScriptHooks).
"""

from __future__ import annotations

from nautilus_runner.payload import Job, Step
from nautilus_runner.variables import Variables

STEP = "get_sources"
_ORDER = ("pre_get_sources_script", "post_get_sources_script")


def steps_of(job: Job, variables: Variables) -> tuple[Step, ...]:
    """All that runs before after_script: the hooks where there are some, then the job's own steps."""
    commands = [line for name in _ORDER for hook in job.hooks if hook.name == name for line in hook.script]
    if not commands or variables.get("GIT_STRATEGY") == "none":
        return job.scripts
    return (Step(name=STEP, script=tuple(commands)), *job.scripts)
