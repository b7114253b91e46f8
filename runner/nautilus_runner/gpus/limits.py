"""Which of the machine's GPUs are ours to give: what others set as limits of our own environment, and our setting.

A scheduler or an administrator limits a process by variables, Slurm and containers also by device control groups. What
those hide is not ours to give.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nautilus_runner.gpu import Gpu

_SLURM = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS")
NONE = frozenset({"", "void", "none"})


@dataclass(frozen=True, slots=True)
class Limits:
    """Lists of numbers or UUIDs, None where nothing is limited. `visible` is CUDA's or Slurm's, `container` the
    container runtime's."""

    visible: str | None = None
    container: str | None = None

    def apply(self, found: Sequence[Gpu], *, is_whole_machine: bool) -> tuple[Gpu, ...]:
        """What is left, in the order of `visible`. The numbers of `container` are the machine's: where we only see
        what our container was given (`is_whole_machine` False) they have been minded already."""
        names = self.container
        if not is_whole_machine and names is not None and names not in NONE:
            names = None
        kept = limited(found, names)
        return tuple(gpu for gpu in limited(found, self.visible) if gpu in kept)


def limits_of(environ: Mapping[str, str]) -> Limits:
    """The limits that an environment sets.

    CUDA's own variable is what programs here would mind. Slurm's numbers are the machine's where its devices are not
    constrained (then it sets CUDA's variable too, which is taken alone, as its numbers may count from the job's first).
    Source: Slurm `gres.html`, CUDA C++ Programming Guide "CUDA Environment Variables", NVIDIA Container Toolkit
    "Specialized Configurations with Docker".
    """
    cuda = environ.get("CUDA_VISIBLE_DEVICES")
    slurm = next((environ[name] for name in _SLURM if environ.get(name)), None)
    container = environ.get("NVIDIA_VISIBLE_DEVICES")
    return Limits(
        cuda if cuda is not None else _spelled_out(slurm), None if container in (None, "all") else container
    )


def limited(found: Sequence[Gpu], visible: str | None) -> tuple[Gpu, ...]:
    """As CUDA reads the variable: in the order named, up to the first name that means nothing.

    A partitioned GPU's name stands for its instances.
    """
    if visible is None:
        return tuple(found)
    chosen: list[Gpu] = []
    wholes = list(dict.fromkeys(gpu.parent or gpu.uuid for gpu in found))
    for word in visible.split(","):
        named = _named(found, wholes, word.strip())
        if not named:
            break
        chosen += named
    return tuple(dict.fromkeys(chosen))


def _named(found: Sequence[Gpu], wholes: Sequence[str], name: str) -> list[Gpu]:
    """The devices that one word means; a part of a UUID must be clear."""
    if name.isdigit():
        wanted = [wholes[int(name)]] if int(name) < len(wholes) else []
    elif name.startswith("GPU-"):
        wanted = [uuid for uuid in wholes if uuid.startswith(name)]
    else:
        instances = [gpu for gpu in found if name.startswith("MIG-") and gpu.uuid.startswith(name)]
        return instances if len(instances) == 1 else []
    return [gpu for gpu in found if wanted == [gpu.parent or gpu.uuid]]


def chosen(found: Sequence[Gpu], wanted: str) -> tuple[Gpu, ...]:
    """What the setting `gpus` leaves of them: `all`, `none`, or some by number or UUID."""
    if wanted in ("all", "none"):
        return tuple(found) if wanted == "all" else ()
    return limited(found, wanted)


def reachable(
    found: Sequence[Gpu], minor_of: Callable[[str], int | None], device: str = "/dev/nvidia{}"
) -> tuple[Gpu, ...]:
    """Without those whose device file a control group keeps from us (Slurm's ConstrainDevices).

    `minor_of` gives the number of a GPU's device file, None where the driver does not tell.
    """
    return tuple(gpu for gpu in found if not _is_kept(minor_of(gpu.parent or gpu.uuid), device))


def _is_kept(minor: int | None, device: str) -> bool:
    if minor is None:
        return False
    try:
        os.close(os.open(device.format(minor), os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.EPERM
    return False


def _spelled_out(listed: str | None) -> str | None:
    """Slurm's lists have ranges: `0,2-3` is `0,2,3`."""
    if listed is None:
        return None
    words: list[str] = []
    for word in listed.split(","):
        first, dash, last = word.strip().partition("-")
        if dash and first.isdigit() and last.isdigit() and int(last) < 1024:
            words += [str(number) for number in range(int(first), int(last) + 1)]
        else:
            words.append(word.strip())
    return ",".join(words)
