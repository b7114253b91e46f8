"""What the gateway asks a service before it lets a request go on (`auth_request`)."""

from __future__ import annotations

from nautilus_gateway.headers import NOT_HONOURED, ORIGINAL_HEADERS, request_headers, response_headers
from nautilus_gateway.syntax import Directive, block, directive, lookup

TAKEN_ASIDE = 418
"""Never sent: nginx's idiom for "go on at a named location", which alone keeps method and URI as they are."""


def question(path: str, url: str, credentials: tuple[str, ...]) -> Directive:
    """The internal location `path` that asks `url`: without body, with the `credentials` headers alone.

    The length of the body counts here all the same, so it has no limit. There is an error page (for a status that
    never occurs) so as to inherit none: what a page looks up here, nginx would remember when it answers the
    request itself.
    """
    body = [
        directive("internal"),
        directive("error_page", TAKEN_ASIDE, "@none"),
        *request_headers(credentials, {**ORIGINAL_HEADERS, "Content-Length": ""}),
        directive("client_max_body_size", 0),
        directive("proxy_pass_request_body", "off"),
        directive("proxy_ignore_headers", *NOT_HONOURED),
        directive("proxy_pass", url),
    ]
    return block("location", "=", path, body=body)


def challenge() -> list[Directive]:
    """For the answer after a denied question: `WWW-Authenticate` once, be it the question's or the answer's."""
    return [
        directive("proxy_hide_header", "WWW-Authenticate"),
        directive("proxy_hide_header", "X-Request-Id"),
        *response_headers({"WWW-Authenticate": "$challenge"}),
    ]


def challenge_map() -> Directive:
    """nginx itself has put the question's challenge among the headers to send, if there was one."""
    return lookup("$sent_http_www_authenticate", "challenge", {"": "$upstream_http_www_authenticate"})
