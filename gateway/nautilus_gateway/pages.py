"""What the gateway says by itself: a service does not answer, a body is too large, nothing is here.

One page for people and one JSON object for programs, chosen by `Accept`. Both stand in the rendered file as
nginx variables, so no further file, folder or resource is needed to say that something is broken.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nautilus_gateway.model import Upstream
from nautilus_gateway.syntax import Directive, block, directive, literal, lookup

_REFRESH_S = 1
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


@dataclass(frozen=True)
class Page:
    """One answer. `name`: last part of its internal path. `part`: the component that is down, if one is."""

    name: str
    status: int
    code: str
    title: str
    text: str
    advice: str
    part: str = ""


COMMON = (
    Page(
        "storage",
        507,
        "insufficient_storage",
        "The upload could not be stored",
        "The gateway could not write the request to its spool folder: most likely the disk is full.",
        "Free some space on the data folder's disk, then try again.",
    ),
    Page(
        "too-large",
        413,
        "payload_too_large",
        "Too large",
        "The body of this request is longer than the gateway takes.",
        "Large files go through Git LFS or as artifacts.",
    ),
    Page(
        "too-many",
        429,
        "too_many_requests",
        "Too many attempts to sign in",
        "There were too many attempts to sign in from this address.",
        "Wait a minute, then try again.",
    ),
    Page("not-found", 404, "not_found", "Not found", "Nothing is at this address.", "Check the address."),
)
"""Answers of every listener. Their reason phrases stand in `_REASONS`."""

_REASONS = {
    404: "404 Not Found",
    413: "413 Payload Too Large",
    429: "429 Too Many Requests",
    503: "503 Service Unavailable",
    507: "507 Insufficient Storage",
}


def down(upstream: Upstream) -> Page:
    """The answer in place of a service that does not."""
    return _down(upstream.name, literal(upstream.title), literal(upstream.serves))


def pages_for(upstreams: Iterable[Upstream], has_git: bool) -> tuple[Page, ...]:
    """Every answer that a configuration with these upstreams may need."""
    git = (_down("git", "Git", "clone, fetch, push"),) if has_git else ()
    return (*map(down, upstreams), *git, *COMMON)


def page_maps(pages: Sequence[Page]) -> list[Directive]:
    """The variables by which one HTML page and one JSON object serve all of `pages`."""
    variables = {
        "page_title": {page.name: page.title for page in pages},
        "page_text": {page.name: page.text for page in pages},
        "page_advice": {page.name: page.advice for page in pages},
        "page_refresh": {page.name: _refresh(page) for page in pages if page.part},
        "page_json": {page.name: _json(page) for page in pages},
    }
    return [
        lookup("$http_accept", "page_kind", {"~*text/html": ".html"}, default=".json"),
        *(lookup("$page_name", name, values) for name, values in variables.items()),
        lookup("$page_name", "page_html", {}, default=page_html()),
        lookup("$page_name", "page_retry_s", _retries(pages)),
    ]


def page_locations() -> list[Directive]:
    """The internal locations that `error_page` names; the status stays that of the error."""
    common = (
        ("X-Content-Type-Options", "nosniff"),
        ("X-Request-Id", "$request_id"),
        ("Cache-Control", "no-store"),
        ("Retry-After", "$page_retry_s"),
        ("Vary", "Accept"),
    )
    style = _style_hash(page_html())
    policy = f"default-src 'none'; style-src '{style}'; base-uri 'none'; frame-ancestors 'none'"
    return [
        block(
            "location",
            "~",
            rf"^/_page/(?<page_name>[a-z-]+)\.{kind}$",
            body=[
                directive("internal"),
                directive("client_max_body_size", 0),
                directive("default_type", media_type),
                directive("charset", "utf-8"),
                *(directive("add_header", *header, "always") for header in (*common, *extra)),
                directive("return", 200, body),
            ],
        )
        for kind, media_type, extra, body in (
            ("html", "text/html", (("Content-Security-Policy", policy),), "$page_html"),
            ("json", "application/json", (), "$page_json"),
        )
    ]


def page_html() -> str:
    """The page, without the indentation and line ends that only its author needs."""
    text = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    return "".join(line.strip() + ("\n" if line.strip().endswith(">") else " ") for line in text.splitlines())


def _down(part: str, title: str, serves: str) -> Page:
    return Page(
        part,
        503,
        "service_unavailable",
        f"{title} does not answer",
        f"<strong>{part}</strong> ({serves}) is not up: it is starting, being restarted, or has failed.",
        "This page asks again every second. On the machine itself, "
        f"<code>nautilus status</code> and <code>nautilus logs {part}</code> say more.",
        part,
    )


def _refresh(page: Page) -> str:
    return f'<meta http-equiv="refresh" content="{_REFRESH_S}">'


def _retries(pages: Sequence[Page]) -> dict[str, str]:
    waits = {page.name: str(_REFRESH_S) for page in pages if page.part}
    return waits | {page.name: "60" for page in pages if page.status == 429}


def _json(page: Page) -> str:
    """GitLab's `message`, management's `code`, and for a dead part the shape of `/-/health`."""
    text = re.sub(r"</?strong>", "", page.text)
    answer: dict[str, object] = {
        "message": f"{_REASONS[page.status]}: {page.title}. {text}",
        "code": page.code,
    }
    if page.part:
        components = [
            {"name": "gateway", "state": "ready", "detail": ""},
            {"name": page.part, "state": "down", "detail": page.title},
        ]
        answer |= {"ready": False, "components": components}
    return json.dumps(answer) + "\n"


def _style_hash(html: str) -> str:
    found = _STYLE.search(html)
    style = found.group(1) if found else ""
    return "sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


def error_pages() -> list[Directive]:
    """Which answer stands for which failure: nginx's own ones, never a status that a service chose.

    Each location sets `$part`, whom its 502 or 504 is about.
    """
    common = (directive("error_page", page.status, f"/_page/{page.name}$page_kind") for page in COMMON)
    return [directive("error_page", 502, 504, "=503", "/_page/$part$page_kind"), *common]
