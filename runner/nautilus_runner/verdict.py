"""What a script's end means: the user's error, or which limit was the reason. Never guessed from an exit code."""

from __future__ import annotations

from nautilus_runner.errors import JobTimedOut, OutOfMemory, PidsExceeded, ScriptFailed, SystemFailure
from nautilus_runner.executors.base import Exit
from nautilus_runner.limits import PIDS, Limits
from nautilus_runner.usage.meter import memory_words
from nautilus_runner.usage.reading import Usage

_MIB = 1 << 20
_KILLED = 137


def judge(ended: Exit, limits: Limits, usage: Usage) -> None:
    """Raises ScriptFailed (or the limit that was the reason), JobTimedOut or SystemFailure for an end that is no
    success; takes what the kernel says over into `usage`."""
    facts, code = ended.facts, ended.code
    usage.take_end(cpu_s=facts.cpu_s, memory_peak_bytes=facts.memory_peak_bytes if facts.oom_kills else 0)
    if ended.is_system_failure:
        raise SystemFailure(ended.note)
    if ended.is_timeout:
        raise JobTimedOut("execution took longer than allowed")
    if code == 0:
        return
    if facts.oom_kills:
        raise OutOfMemory(f"{_memory(ended, limits)} (exit code {code})", code)
    if facts.pids_refused or (limits.pids and usage.highest("pids") >= limits.pids):
        allowed = f"{limits.pids} are allowed ({PIDS})" if limits.pids else "too many"
        raise PidsExceeded(f"the job wanted more processes than {allowed} (exit code {code})", code)
    note = ended.note
    if code == _KILLED and not note:
        note = "killed with SIGKILL, by no limit of this runner"
    raise ScriptFailed(f"exit code {code}" + (f" ({note})" if note else ""), code)


def _memory(ended: Exit, limits: Limits) -> str:
    facts = ended.facts
    if facts.own_ooms == 0:
        peak = facts.memory_peak_bytes / _MIB
        return f"the whole machine had no memory left; the job's peak was {peak:.0f} MiB"
    if not limits.memory_mib:
        peak = facts.memory_peak_bytes / _MIB
        return f"peak {peak:.0f} MiB; the runner itself, or what it runs in, may not use more"
    return memory_words(facts.memory_peak_bytes or limits.memory_mib * _MIB, limits.memory_mib)
