"""Each kind of route as nginx locations."""

from __future__ import annotations

from collections.abc import Sequence

from nautilus_gateway.git import git_locations
from nautilus_gateway.gitlab import passing_through
from nautilus_gateway.headers import CREDENTIAL_HEADERS, NOT_HONOURED, response_headers
from nautilus_gateway.model import (
    GatewayConfig,
    Git,
    Limits,
    Listener,
    Match,
    Matching,
    Passthrough,
    Proxy,
    Refuse,
    Route,
    Stream,
    Upload,
    Upstream,
    upstreams_of,
)
from nautilus_gateway.pages import error_pages, page_locations
from nautilus_gateway.questions import TAKEN_ASIDE, challenge, question
from nautilus_gateway.syntax import Directive, block, directive, literal, unbuffered

_FILE_POLICY = "sandbox; default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'"
"""Stored files are users' work: opened in a browser, they run nothing and see no cookie of ours."""

_SPOOL_PIECE = "1m"
"""What is written at once of a spooled body, and its memory: a quarter of that takes half as much time again."""

_INTERNAL = (Match("/internal", Matching.EXACT), Match("/internal/", Matching.PREFIX_FIRST))
"""Routes of the services that only the gateway's own questions reach."""


def server_body(routes: Sequence[Route], config: GatewayConfig) -> list[Directive]:
    """Everything inside one `server` but its `listen` lines."""
    found: list[Directive] = []
    for route in routes:
        match route:
            case Proxy():
                found.append(_proxy(route, config.limits))
            case Upload():
                found.append(_upload(route, config.limits))
            case Stream():
                streamed = unbuffered(config.limits.stream_silence_s)
                found.append(_location(route.match, [*streamed, *_passing(route.upstream)]))
            case Git():
                found += git_locations(route, str(config.git_http_backend), config.limits)
            case Passthrough():
                found.append(_location(route.match, passing_through(route, config.limits)))
            case Refuse():
                found.append(_refused(route.match))
    uploads = [route for route in routes if isinstance(route, Upload)]
    for kind, upstream in {route.kind: route.upstream for route in uploads}.items():
        found.append(_spooling(kind, upstream, config))
    for upstream in dict.fromkeys(route.upstream for route in uploads):
        found += _around_spooling(upstream)
    found += [_files(upstream) for upstream in upstreams_of(routes) if upstream.files is not None]
    if not all(isinstance(route, Passthrough) for route in routes):
        found += [_refused(match) for match in _INTERNAL]
    found += [_instance(config.instance)] if config.instance else []
    return [directive("recursive_error_pages", "on"), *error_pages(), *found, *page_locations()]


def redirect_body(listener: Listener, config: GatewayConfig) -> list[Directive]:
    """A plain port beside one with TLS: the listener's `plain` routes, ACME's answers, and the way to the other."""
    port = config.published_tls_port or listener.tls_port
    target = "https://$host" if port == 443 else f"https://$host:{port}"
    acme = [
        block(
            "location",
            "^~",
            "/.well-known/acme-challenge/",
            body=[directive("root", literal(config.acme_dir)), directive("default_type", "text/plain")],
        )
        for _ in filter(None, [config.acme_dir])
    ]
    onward = block("location", "/", body=[directive("return", 308, f"{target}$request_uri")])
    return [*server_body(listener.plain, config), *acme, onward]


def _proxy(route: Proxy, limits: Limits) -> Directive:
    limit = ("zone=sign_in", f"burst={limits.sign_ins_per_minute}", "nodelay")
    body = [directive("limit_req", *limit), directive("limit_req_status", 429)] if route.is_sign_in else []
    return _location(route.match, [*body, *_passing(route.upstream)])


def _upload(route: Upload, limits: Limits) -> Directive:
    """A body of the route's method is taken aside; anything else goes on as it comes, never onto the disk."""
    body = [
        directive("set", "$part", route.upstream.name),
        *error_pages(),
        directive("error_page", TAKEN_ASIDE, "=", f"@{route.kind}_spool"),
        block("if", "($request_method", "=", f"{route.method})", body=[directive("return", TAKEN_ASIDE)]),
        directive("client_max_body_size", f"{limits.upload_mib}m"),
        directive("proxy_request_buffering", "off"),
        *_honoured(route.upstream),
        directive("proxy_pass", f"http://{route.upstream.name}"),
    ]
    return _location(route.match, body)


def _spooling(kind: str, upstream: Upstream, config: GatewayConfig) -> Directive:
    """Authorised first, then written into the kind's folder of the spool, then handed over by path."""
    name = upstream.name
    body = [
        directive("auth_request", f"/_authorize/{name}/upload"),
        directive("auth_request_set", "$authorize_status", "$upstream_status"),
        directive("error_page", 401, 403, "=", f"@{name}_unspooled"),
        directive("error_page", 500, "=", f"@{name}_spool_failed"),
        *error_pages(),
        directive("client_max_body_size", f"{config.limits.upload_mib}m"),
        directive("client_body_temp_path", literal(config.spool_dir / kind)),
        directive("client_body_in_file_only", "clean"),
        directive("client_body_buffer_size", _SPOOL_PIECE),
        directive("set", "$is_spooled", 1),
        directive("proxy_set_body", ""),
        *_honoured(upstream),
        directive("proxy_pass", f"http://{name}"),
    ]
    return block("location", f"@{kind}_spool", body=body)


def _around_spooling(upstream: Upstream) -> list[Directive]:
    """The question whether a body may be spooled, and what follows where it may not.

    A denied one is passed on as it comes: the service's own route answers it, with its own status and body,
    and has no need to read what follows the head.
    """
    name = upstream.name
    unspooled = [
        *challenge(),
        directive("client_max_body_size", 0),
        directive("proxy_request_buffering", "off"),
        *_honoured(upstream),
        directive("proxy_pass", f"http://{name}"),
    ]
    failed = [
        directive("error_page", TAKEN_ASIDE, "=", f"@{name}_unspooled"),
        directive("error_page", 503, f"/_page/{name}$page_kind"),
        directive("error_page", 507, "/_page/storage$page_kind"),
        block("if", "($authorize_status", "~", "^2)", body=[directive("return", 507)]),
        block("if", "($authorize_status", "~", "^4)", body=[directive("return", TAKEN_ASIDE)]),
        directive("return", 503),
    ]
    return [
        block("location", f"@{name}_unspooled", body=unspooled),
        block("location", f"@{name}_spool_failed", body=failed),
        question(
            f"/_authorize/{name}/upload", f"http://{name}/internal/upload/authorize", CREDENTIAL_HEADERS
        ),
    ]


def _files(upstream: Upstream) -> Directive:
    """Where `X-Accel-Redirect: /_<name>/…` leads; no symbolic link below the folder is followed."""
    folder = literal(upstream.files)
    body = [
        directive("internal"),
        directive("alias", f"{folder}/"),
        directive("disable_symlinks", "on", f"from={folder}/"),
        *response_headers({"Content-Security-Policy": _FILE_POLICY}),
    ]
    return block("location", "^~", f"/_{upstream.name}/", body=body)


def _instance(name: str) -> Directive:
    """Who this is, said by the gateway itself: also while no service is up."""
    said = [directive("default_type", "text/plain"), directive("return", 200, literal(name))]
    return _location(Match("/-/nautilus", Matching.EXACT), said)


def _refused(match: Match) -> Directive:
    return _location(match, [directive("return", 404)])


def _passing(upstream: Upstream) -> list[Directive]:
    return [
        directive("set", "$part", upstream.name),
        *_honoured(upstream),
        directive("proxy_pass", f"http://{upstream.name}"),
    ]


def _honoured(upstream: Upstream) -> list[Directive]:
    return [directive("proxy_ignore_headers", *NOT_HONOURED)] if upstream.files is None else []


def _location(match: Match, body: list[Directive]) -> Directive:
    how = (match.how.value,) if match.how.value else ()
    return block("location", *how, match.text, body=body)
