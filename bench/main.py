"""`bench/run`: all figures in one go, printed and stored. docs/reference/bench.md says what each means."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PARTS = ("appliance", "jobs", "runner", "forge", "git", "ssh", "transfers", "tracking", "image")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="bench/run", description="Figures of Nautilus beside their yardsticks."
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"some of: {', '.join(PARTS)} (all by default)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write {'figures': […]} to this file too")
    parser.add_argument("--runs", type=int, default=5, help="how often each thing is measured (5)")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}: use {', '.join(PARTS)}")
    found: list[dict[str, Any]] = []
    for part in options.parts or PARTS:
        print(f"measuring {part} …", file=sys.stderr, flush=True)
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"nautilus-bench-{part}-", dir="/tmp") as home:
            found += importlib.import_module(f"bench.{part}").figures(options.runs, Path(home))
        print(f"  {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    show(found)
    store({"figures": found}, options.json)
    raise SystemExit(0 if all(f["ok"] for f in found) else 12)


def show(found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("figure", "median", "range", "unit", "yardstick", "ratio", "target", ""):
        table.add_column(name, justify="right" if name in ("median", "range", "ratio") else "left")
    for f in found:
        beside = f"{f['yardstick']}: {f['yardstick_median']:g}" if f["yardstick_median"] is not None else "–"
        ratio = f"{f['ratio']:g}" if f["ratio"] is not None else "–"
        spread = f"{f['min']:g} – {f['max']:g}"
        mark = "[green]ok[/]" if f["ok"] else "[red]missed[/]"
        table.add_row(f["name"], f"{f['median']:g}", spread, f["unit"], beside, ratio, f["target"], mark)
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def store(body: dict[str, Any], path: Path | None) -> None:
    text = json.dumps(body, indent=2, ensure_ascii=False) + "\n"
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json").write_text(text)
    if path:
        path.write_text(text)


if __name__ == "__main__":
    main()
