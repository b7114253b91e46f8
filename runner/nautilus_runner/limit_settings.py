"""The parts of `config.toml` that say how much jobs may have: `[capacity]`, `[runners.limits]` and `[[kinds]]`."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CapacitySettings(_Part):
    """`[capacity]`: what all jobs of this machine have together; 0: as much as there is."""

    cpus: float = Field(default=0.0, ge=0)
    memory_mib: int = Field(default=0, ge=0)
    disk_mib: int = Field(default=0, ge=0)
    patience_s: float = Field(default=120.0, ge=0)  # then smaller jobs no longer overtake one that waits
    most_waiting: int = Field(default=4, ge=1)  # jobs that are here and wait for room or GPUs, without a slot


class LimitSettings(_Part):
    """`[runners.limits]`: what a job has that asks for nothing; 0: no limit."""

    cpus: float = Field(default=0.0, ge=0)
    memory_mib: int = Field(default=0, ge=0)
    shm_mib: int = Field(default=0, ge=0)
    pids: int = Field(default=0, ge=0)
    disk_mib: int = Field(default=0, ge=0)
    idle_gpu_s: float = Field(default=0.0, ge=0)


def _pairs(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if "=" not in value:
            raise ValueError(f"write NAME=pattern, not {value!r}")
    return values


class KindSettings(_Part):
    """`[[kinds]]`: one kind of job, with its own parallelism, timeout and limits.

    A job is of the first kind of which it meets every list that is not empty, each by any of its patterns (as a
    shell's): `variables` (`NAME=pattern`), `jobs` (the job's name), `stages`, `projects` (full path), `runners`
    (this machine's registrations, by name: so by their tags).
    """

    name: str = Field(min_length=1)
    variables: Annotated[tuple[str, ...], AfterValidator(_pairs)] = ()
    jobs: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    runners: tuple[str, ...] = ()
    limit: int = Field(default=0, ge=0)  # jobs of this kind at a time; 0: no bound of its own
    timeout_s: float = Field(default=0.0, ge=0)  # of a job's scripts together; 0: no limit of its own
    limits: LimitSettings = LimitSettings()

    @property
    def is_for_all(self) -> bool:
        """Nothing but the registration decides whether a job is of this kind."""
        return not (self.variables or self.jobs or self.stages or self.projects)

    def may_match(self, runner: str) -> bool:
        """Whether a job of the registration of this name can be of this kind."""
        return not self.runners or _any(runner, self.runners)

    def matches(self, variables: dict[str, str], job: str, stage: str, project: str, runner: str) -> bool:
        plain = ((self.jobs, job), (self.stages, stage), (self.projects, project), (self.runners, runner))
        if any(patterns and not _any(value, patterns) for patterns, value in plain):
            return False
        pairs = (pair.partition("=") for pair in self.variables)
        return not self.variables or any(
            name in variables and fnmatchcase(variables[name], pattern) for name, _, pattern in pairs
        )


def _any(value: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(value, pattern) for pattern in patterns)
