"""Tables that several commands print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_COLORS = {"succeeded": "green", "failed": "red", "canceled": "yellow", "running": "cyan"}
_MOST_METRICS = 6
_WIDTH_OF_PIPES = 160


def wide_console() -> Console:
    """Rich's console on stdout; what goes into a pipe or a file is not cut at 80 columns."""
    import sys

    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_OF_PIPES)


def experiments_table(found: list[dict[str, Any]], best: Any = None, only: tuple[str, ...] = ()) -> Table:
    """One row an experiment: parameters and last metrics (`only` these, if any) as columns; `best` is an id."""
    from rich.table import Table

    params = _columns(found, "params")
    metrics = list(only) or _columns(found, "metrics")[:_MOST_METRICS]
    table = Table(box=None, pad_edge=False)
    for name in ("id", "state", *params):
        table.add_column(name, no_wrap=True)
    for name in (*metrics, "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for e in found:
        state = f"[{_COLORS.get(e['state'], 'white')}]{e['state']}[/]"
        values = [number(e["params"].get(name)) for name in params]
        figures = [number(e["metrics"].get(name)) for name in metrics]
        duration = f"{e['duration_s']:.1f}" if e.get("duration_s") is not None else "–"
        mark = "← best" if best is not None and e["id"] == best else ""
        table.add_row(str(e["id"]), state, *values, *figures, duration, mark)
    return table


def number(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _columns(found: list[dict[str, Any]], key: str) -> list[str]:
    return list(dict.fromkeys(name for e in found for name in e[key]))
