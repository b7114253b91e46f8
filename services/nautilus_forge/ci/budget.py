"""How much work one compilation may do, so that hostile input ends in an error and not in a hang."""

from __future__ import annotations

DEFAULT_UNITS = 600_000
"""About half a second of matching on one slow core."""


class BudgetExhausted(Exception):
    """The configuration asks for more matching work than one compilation may do."""


class Budget:
    """Units left; one unit is one step of an automaton or one comparison."""

    __slots__ = ("left",)

    def __init__(self, units: int = DEFAULT_UNITS) -> None:
        self.left = units

    def spend(self, units: int) -> None:
        """Take units away. Raises `BudgetExhausted` when none are left."""
        self.left -= units
        if self.left < 0:
            raise BudgetExhausted("the configuration takes too long to evaluate")
