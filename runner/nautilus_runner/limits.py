"""What one job may have: asked for by its variables, else by its kind, else by its registration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nautilus_runner.durations import seconds_of
from nautilus_runner.errors import JobMisconfigured
from nautilus_runner.limit_settings import KindSettings, LimitSettings
from nautilus_runner.payload import Job
from nautilus_runner.settings import RunnerSettings

CPUS, MEMORY, DISK = "NAUTILUS_CPUS", "NAUTILUS_MEMORY", "NAUTILUS_DISK"
SHM, PIDS, IDLE_GPU = "NAUTILUS_SHM", "NAUTILUS_PIDS", "NAUTILUS_IDLE_GPU_TIMEOUT"
_MIB_OF = {"k": 1 / 1024, "m": 1.0, "g": 1024.0, "t": 1024.0 * 1024}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(?:([kmgt])i?b?)?", re.IGNORECASE)
_MOST_PIDS = 32768


@dataclass(frozen=True, slots=True)
class Limits:
    """0: no limit. `kind` is the name of the job's kind ("" for none); `timeout_s` is that of its scripts."""

    cpus: float = 0.0
    memory_mib: int = 0
    shm_mib: int = 0
    pids: int = 0
    disk_mib: int = 0
    idle_gpu_s: float = 0.0
    kind: str = ""
    timeout_s: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Limits:
        """What `as_json` gave, also that of another version of ours."""
        return cls(**{name: value for name, value in saved.items() if name in cls.__slots__})


def usual_limits(settings: RunnerSettings) -> Limits:
    """Of a job that asks for nothing."""
    return Limits(**settings.limits.model_dump())


def kind_of(
    job: Job, variables: Mapping[str, str], runner: str, kinds: tuple[KindSettings, ...]
) -> KindSettings | None:
    """The first kind that the job is of."""
    info = job.job_info
    for kind in kinds:
        if kind.matches(dict(variables), info.name, info.stage, info.project_full_path, runner):
            return kind
    return None


def possible_kinds(runner: str, kinds: tuple[KindSettings, ...]) -> list[KindSettings | None]:
    """What can be known of a job before it is there: the kinds that one of this registration can be of.

    None stands for no kind; it is left out where every job of the registration is of one.
    """
    found: list[KindSettings | None] = []
    for kind in kinds:
        if kind.may_match(runner):
            found.append(kind)
            if kind.is_for_all:
                return found
    return [*found, None]


def limits_of(variables: Mapping[str, str], settings: RunnerSettings, kind: KindSettings | None) -> Limits:
    """Raises JobMisconfigured for what is no size, count or duration, and for more processes than are allowed."""
    base = settings.limits
    if kind is not None:
        base = LimitSettings.model_validate(
            {**base.model_dump(), **{k: v for k, v in kind.limits.model_dump().items() if v}}
        )
    cpus = _cpus(variables.get(CPUS, ""))
    most_pids = base.pids or (settings.docker.pids_limit if settings.executor == "docker" else _MOST_PIDS)
    pids = _count(PIDS, variables.get(PIDS, ""))
    if pids > most_pids:
        raise JobMisconfigured(f"{PIDS}={pids}: this runner allows {most_pids} processes of one job")
    return Limits(
        cpus=cpus or base.cpus,
        memory_mib=_mib(MEMORY, variables.get(MEMORY, "")) or base.memory_mib,
        shm_mib=_mib(SHM, variables.get(SHM, "")) or base.shm_mib,
        pids=pids or base.pids or (most_pids if settings.executor == "docker" else 0),
        disk_mib=_mib(DISK, variables.get(DISK, "")) or base.disk_mib,
        idle_gpu_s=_duration(IDLE_GPU, variables.get(IDLE_GPU, "")) or base.idle_gpu_s,
        kind=kind.name if kind else "",
        timeout_s=kind.timeout_s if kind else 0.0,
    )


def _mib(name: str, text: str) -> int:
    """Sizes as Docker's and Kubernetes' users write them: 512m, 512Mi, 4g, 4GiB, 0.5G; units are of 1024, a number
    alone is MiB."""
    if not text.strip():
        return 0
    found = _SIZE.fullmatch(text.strip())
    size = float(found[1]) * _MIB_OF[(found[2] or "m").lower()] if found else 0.0
    if not 1 <= size < 2**40:
        raise JobMisconfigured(f"{name}={text!r} is no size of 1 MiB or more; write it as 512Mi or 4Gi")
    return int(size)


def _cpus(text: str) -> float:
    """A number of cpus, or thousandths of one with the letter m, as Kubernetes has it."""
    if not text.strip():
        return 0.0
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(m?)", text.strip())
    cpus = float(found[1]) / (1000 if found[2] else 1) if found else 0.0
    if not 0.01 <= cpus <= 4096:
        raise JobMisconfigured(f"{CPUS}={text!r} is no number of cpus; write it as 2, 0.5 or 500m")
    return cpus


def _count(name: str, text: str) -> int:
    if not text.strip():
        return 0
    if not re.fullmatch(r"\d{1,9}", text.strip()) or int(text) == 0:
        raise JobMisconfigured(f"{name}={text!r} is no count")
    return int(text)


def _duration(name: str, text: str) -> float:
    if not text.strip():
        return 0.0
    found = seconds_of(text)
    if found is None:
        raise JobMisconfigured(f"{name}={text!r} is no duration; write it as 90s, 10m or 1h30m")
    return found
