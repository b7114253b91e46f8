"""What a job asks of GPUs, by its variables, and which GPU would do.

NAUTILUS_GPUS         a count, or the UUIDs of certain ones; one where only the variables below are given
NAUTILUS_GPU_MEMORY   of each at least so much: 16GB, 16GiB, 16384 (MiB)
NAUTILUS_GPU_MODEL    words of the model's name: A100, "RTX 4090", "A100 80GB"; several models by commas
NAUTILUS_GPU_SHARED   so much of one GPU's memory, beside other jobs that ask for a share too
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nautilus_runner.errors import JobMisconfigured
from nautilus_runner.gpu import Gpu

COUNT_VARIABLE = "NAUTILUS_GPUS"
MEMORY_VARIABLE = "NAUTILUS_GPU_MEMORY"
MODEL_VARIABLE = "NAUTILUS_GPU_MODEL"
SHARE_VARIABLE = "NAUTILUS_GPU_SHARED"
VARIABLES = (COUNT_VARIABLE, MEMORY_VARIABLE, MODEL_VARIABLE, SHARE_VARIABLE)

_MOST = 1024
_MIB = 1 << 20
_UNITS = {
    **{"": _MIB, "m": _MIB, "mi": _MIB, "mib": _MIB, "mb": 10**6},
    **{"g": 1 << 30, "gi": 1 << 30, "gib": 1 << 30, "gb": 10**9},
    **{"t": 1 << 40, "ti": 1 << 40, "tib": 1 << 40, "tb": 10**12},
}
"""GB are those on the box: a card "of 24 GB" has 24564 MiB, which is less than 24 GiB."""
_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*([a-z]*)", re.IGNORECASE)
_UUID = re.compile(r"(GPU|MIG)-[0-9A-Za-z/-]{4,80}")
_PART = re.compile(r"[a-z]+|\d+")
_TOLERANCE = 0.98
"""A GPU "of 80 GiB" shows 0.5 to 1.5 % less: its driver keeps some."""


@dataclass(frozen=True, slots=True)
class Wish:
    """`count` GPUs, or just those of `uuids`; each with `memory_mib` at least, of a model that `model` names.
    `share_mib` above 0: that much of one, beside others."""

    count: int = 0
    uuids: tuple[str, ...] = ()
    memory_mib: int = 0
    model: str = ""
    share_mib: int = 0

    def fits(self, gpu: Gpu) -> bool:
        """Whether this GPU would do, were it free."""
        if self.uuids and gpu.uuid not in self.uuids:
            return False
        enough = max(self.memory_mib, self.share_mib) * _TOLERANCE
        return gpu.memory_mib >= enough and is_model(gpu.name, self.model)

    def __str__(self) -> str:
        if self.share_mib:
            what = f"a share of {self.share_mib} MiB of a GPU"
        elif self.uuids:
            return f"the GPU{'s' if self.count > 1 else ''} {', '.join(self.uuids)}"
        else:
            what = "1 GPU" if self.count == 1 else f"{self.count} GPUs"
        what += f" of model {self.model}" if self.model else ""
        return what + (f" with at least {self.memory_mib} MiB" if self.memory_mib else "")


def wish_of(variables: Mapping[str, str]) -> Wish:
    """What a job's variables ask for. Raises JobMisconfigured for what can't be read."""
    count, memory, model, share = (variables.get(name, "").strip() for name in VARIABLES)
    if not (count or memory or model or share):
        return Wish()
    uuids = tuple(dict.fromkeys(word.strip() for word in count.split(","))) if count else ()
    if uuids and all(_UUID.fullmatch(uuid) for uuid in uuids):
        number = len(uuids)
    elif not count or (count.isdigit() and int(count) <= _MOST):
        uuids, number = (), int(count or 1)
    else:
        raise JobMisconfigured(
            f"{COUNT_VARIABLE} must be a count of GPUs or the UUIDs of some, not {count!r}"
        )
    wish = Wish(number, uuids, _mib(MEMORY_VARIABLE, memory), model, _mib(SHARE_VARIABLE, share))
    if wish.share_mib and wish.count > 1:
        raise JobMisconfigured(
            f"{SHARE_VARIABLE} is a share of one GPU, and {COUNT_VARIABLE} asks for {wish.count}"
        )
    return wish if wish.count else Wish()


def is_model(name: str, wanted: str) -> bool:
    """Whether a GPU's name has all words of one of the models: A10 is in "NVIDIA A10G", not in "NVIDIA A100".

    Letters and digits are looked at apart, so "rtx4090" is an "RTX 4090".
    """
    have = _PART.findall(name.lower())
    models = [model for model in wanted.split(",") if _PART.search(model.lower())]
    return not models or any(all(_has(have, word) for word in re.split(r"[\s-]+", model)) for model in models)


def _has(parts: Sequence[str], word: str) -> bool:
    """Whether the parts of `word` stand in this order, one right after the other."""
    wanted = _PART.findall(word.lower())
    return any(list(parts[at : at + len(wanted)]) == wanted for at in range(len(parts) - len(wanted) + 1))


def _mib(variable: str, text: str) -> int:
    """MiB of a size; 0 where there is none. A plain number is MiB."""
    if not text:
        return 0
    found = _SIZE.fullmatch(text)
    unit = _UNITS.get(found.group(2).lower()) if found else None
    if found is None or unit is None or float(found.group(1)) <= 0:
        raise JobMisconfigured(f"{variable} must be an amount of memory such as 16GB or 16GiB, not {text!r}")
    return max(1, int(float(found.group(1)) * unit) // _MIB)
