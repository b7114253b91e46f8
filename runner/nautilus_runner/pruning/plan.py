"""What goes, and why. Pure.

leftover  it belongs to a job that is over
stale     a download that nobody went on with for a week; a checkpoint that nobody came for in two
limit     its kind takes more than the configuration allows: used longest ago first
reserve   the disk has too little free space: used longest ago first, of all kinds; checkpoints last, as nothing
          brings them back
asked     `prune --all`: everything that is not in use
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

STALE_S = 7 * 86400.0
_IRREPLACEABLE = ("checkpoint",)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing of ours. `is_held`: a job uses it, or may still come for it; `is_leftover`: of a job that is no more;
    `is_stale`: nobody came for it in its time.

    `is_local`: its bytes are on the disk whose reserve we keep.
    """

    kind: (
        str  # data, partial, cache, lfs, mirror, image, built-image, volume, checkpoint, work-tree, container
    )
    name: str
    size: int  # bytes
    used_at: float
    is_held: bool = False
    is_leftover: bool = False
    is_stale: bool = False
    is_local: bool = True
    about: str = ""


@dataclass(frozen=True, slots=True)
class Removal:
    item: Item
    why: str

    def as_json(self) -> dict[str, object]:
        item = self.item
        return {
            "kind": item.kind,
            "name": item.name,
            "size_bytes": item.size,
            "used_at": round(item.used_at, 3),
            "why": self.why,
            "about": item.about,
        }


@dataclass(frozen=True, slots=True)
class Policy:
    """`limits`: bytes by kind; `missing`: what the disk lacks to have its reserve; `is_all`: everything unused."""

    now: float
    limits: Mapping[str, int]
    missing: int = 0
    is_all: bool = False


def choose(items: Iterable[Item], policy: Policy) -> list[Removal]:
    """What to remove, in order. Never what a job uses."""
    everything = list(items)
    free = sorted((item for item in everything if not item.is_held), key=lambda item: item.used_at)
    chosen: dict[tuple[str, str], Removal] = {}

    def take(item: Item, why: str) -> None:
        chosen.setdefault((item.kind, item.name), Removal(item, why))

    for item in free:
        if item.is_leftover:
            take(item, "leftover")
        elif item.is_stale or (item.kind == "partial" and policy.now - item.used_at > STALE_S):
            take(item, "stale")
    for kind, limit in policy.limits.items():
        over = sum(item.size for item in everything if item.kind == kind) - limit
        for item in free:
            if item.kind == kind and over > 0:
                take(item, "limit")
                over -= item.size
    missing = policy.missing - sum(r.item.size for r in chosen.values() if r.item.is_local)
    for item in sorted(free, key=lambda item: item.kind in _IRREPLACEABLE):
        if missing > 0 and item.is_local and (item.kind, item.name) not in chosen:
            take(item, "reserve")
            missing -= item.size
    if policy.is_all:
        for item in free:
            take(item, "asked")
    return list(chosen.values())
