"""The page that a browser gets while something is not ready: needs nothing but itself."""

from __future__ import annotations

import html

from nautilus.health.probes import ComponentState, Health

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:10vh auto;padding:0 1rem;"
    "background:#fff;color:#1d2733}table{border-collapse:collapse;width:100%}"
    "td{padding:.45rem .5rem;border-top:1px solid #d9dee5;vertical-align:top;overflow-wrap:anywhere}"
    "td:first-child{font-weight:600}.ready{color:#1a7f4b}.down,.failed{color:#b3261e}"
    ".starting,.waiting{color:#8a5a00}"
    "@media(prefers-color-scheme:dark){body{background:#12171e;color:#e4e9f0}td{border-color:#2e3844}"
    ".ready{color:#5fd39a}.down,.failed{color:#ff8a80}.starting,.waiting{color:#f0c060}}"
)


def health_page(health: Health) -> str:
    """Names the parts that are not ready first; reloads itself each two seconds."""
    waiting = [c.name for c in health.components if c.state is not ComponentState.READY]
    title = f"Nautilus waits for {' and '.join(waiting)}" if waiting else "Nautilus is ready"
    rows = "".join(
        f"<tr><td>{html.escape(c.name)}<td class={c.state}>{c.state}<td>{html.escape(c.detail)}"
        for c in sorted(health.components, key=lambda c: c.state is ComponentState.READY)
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=2>"
        f"<meta name=viewport content='width=device-width'><title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1><table>{rows}</table>"
        "<p>This page looks again by itself.</p></html>"
    )
