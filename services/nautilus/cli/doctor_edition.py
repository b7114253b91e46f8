"""What `nautilus doctor` says of the edition: whose data this is, GitLab's package, and room for it."""

from __future__ import annotations

from pathlib import Path

from nautilus.appliance.edition import Edition, read_made
from nautilus.appliance.errors import ApplianceError
from nautilus.appliance.omnibus.package import Omnibus
from nautilus.appliance.settings import ApplianceSettings
from nautilus.cli.findings import Finding

LEAST_MIB = 2048
"""GitLab's own floor, with as much swap again as half of it. Source:
https://docs.gitlab.com/omnibus/settings/memory_constrained_envs/"""

ENOUGH_MIB = 4096


def check_edition(settings: ApplianceSettings) -> Finding:
    """The data folder's edition is the program's; the full one finds its package and memory."""
    try:
        made = read_made(settings.layout)
    except ApplianceError as error:
        return Finding("edition", "error", str(error), "see docs/how-to/export-and-import.md")
    if made is not None and made.edition != settings.edition:
        what = f"the data is of the {made.edition} edition, this is the {settings.edition} one"
        return Finding("edition", "error", what, "docs/how-to/export-and-import.md says how it goes over")
    if settings.edition is Edition.LITE:
        return Finding("edition", "ok", "lite: the embedded forge")
    package = Omnibus(settings.omnibus_root)
    try:
        package.ensure_installed()
    except ApplianceError as error:
        return Finding("edition", "error", str(error), "use the image nautilus:full")
    return gitlabs_room(package.version(), *memory_mib())


def gitlabs_room(version: str, memory: int, swap: int) -> Finding:
    """`memory` and `swap` in MiB. Pure."""
    found = f"full: GitLab {version}, {memory} MiB of memory, {swap} MiB of swap"
    mend = "give the machine (or the container: --memory) 4 GiB, or at least 2 GiB and 1 GiB of swap"
    if memory < LEAST_MIB * 0.9:
        return Finding("edition", "error", found, mend)
    if memory < ENOUGH_MIB * 0.9 and swap < 1024 * 0.9:
        return Finding("edition", "warning", found, mend)
    return Finding("edition", "ok", found)


def memory_mib(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> tuple[int, int]:
    """Memory and swap that this container may use, else the machine's, in MiB."""
    lines = (line.split() for line in (proc / "meminfo").read_text().splitlines())
    machine = {line[0].rstrip(":"): int(line[1]) // 1024 for line in lines if len(line) > 1}
    limits = [_limit_mib(cgroup / name) for name in ("memory.max", "memory.swap.max")]
    both = zip(limits, (machine.get("MemTotal", 0), machine.get("SwapTotal", 0)), strict=True)
    memory, swap = (total if limit is None else min(limit, total) for limit, total in both)
    return memory, swap


def _limit_mib(path: Path) -> int | None:
    try:
        return int(path.read_text()) // 2**20
    except (OSError, ValueError):  # "max", or no such limit here
        return None
