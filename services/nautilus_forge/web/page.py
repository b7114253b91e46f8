"""The frame of the forge's own pages: self-contained HTML under a strict content security policy.

No script, no font, no image and no style from anywhere else: they work without a network.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

from starlette.responses import Response

_MARK = (
    '<svg viewBox="0 0 32 32" fill="none" stroke="currentColor" stroke-width="2.8" stroke-linecap="round"'
    ' aria-hidden="true"><path d="M28 17.5A11.6 11.6 0 1 0 16.2 28.6c6.3 0 9.6-4 9.6-8.9 0-4.7-3.4-8.2-7.9-8.2'
    '-4 0-6.9 2.9-6.9 6.6 0 3.1 2.2 5.3 5.1 5.3 2.5 0 4.2-1.7 4.2-3.9 0-1.9-1.3-3.2-3-3.2"/></svg>'
)


@cache
def _style() -> tuple[str, str]:
    """(the style sheet, its source expression for the policy)."""
    text = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return text, f"'sha256-{digest}'"


def page(
    title: str, body: str, *, status: int = 200, form_targets: Iterable[str] = (), wide: bool = False
) -> Response:
    """`body` is HTML whose values are escaped already. `form_targets`: URLs to which a form may lead on."""
    style, source = _style()
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)} · Nautilus</title><link rel="icon" href="data:,"><style>{style}</style></head>'
        f"<body><main{' class=wide' if wide else ''}><header>{_MARK}<span>Nautilus</span></header>"
        f"{body}</main></body></html>"
    )
    return Response(html, status, _headers(source, form_targets), media_type="text/html")


def _headers(style_source: str, form_targets: Iterable[str]) -> Mapping[str, str]:
    targets = " ".join(
        ["'self'", *dict.fromkeys(origin for url in form_targets if (origin := origin_of(url)))]
    )
    return {
        "Content-Security-Policy": (
            f"default-src 'none'; style-src {style_source}; img-src data:; form-action {targets}; "
            "base-uri 'none'; frame-ancestors 'none'"
        ),
        "Cache-Control": "no-store",
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }


def origin_of(url: str) -> str | None:
    """`https://host:port` of a URL, or `scheme:` of one without a host (`myapp:/callback`)."""
    parts = urlsplit(url)
    if not parts.scheme or any(c in url for c in " ;,'\"\\\n\r\t"):
        return None
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else f"{parts.scheme}:"


def hidden(fields: Mapping[str, str]) -> str:
    return "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in fields.items()
    )


def failure(title: str, text: str, status: int) -> Response:
    """A page that says what went wrong."""
    return page(title, f"<h1>{escape(title)}</h1><p class=lead>{escape(text)}</p>", status=status)
