"""Deep merge of mappings, sharing what does not change: the way of `extends` and of `include`."""

from __future__ import annotations

from typing import Any

from nautilus_forge.ci.budget import Budget
from nautilus_forge.ci.values import YamlMap

MERGE_UNITS = 2_000_000


def deep_merge(base: Any, over: Any, budget: Budget) -> Any:
    """`over` laid upon `base`: mappings are merged key by key, all else is replaced. Neither is changed.

    Raises `BudgetExhausted`.
    """
    if not (isinstance(base, YamlMap) and isinstance(over, YamlMap)):
        return over
    budget.spend(len(base) + len(over))
    merged = base.duplicate()
    for key, value in over.items():
        merged[key] = deep_merge(base[key], value, budget) if key in base else value
    merged.places.update(over.places)
    return merged
