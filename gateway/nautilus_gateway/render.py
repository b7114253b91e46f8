"""The configuration file as text: one template, filled from the model. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network
from pathlib import Path
from string import Template

from nautilus_gateway.git import git_maps
from nautilus_gateway.gitlab import upgrade_map
from nautilus_gateway.headers import SPOOLED_HEADERS, request_headers, response_headers
from nautilus_gateway.locations import redirect_body, server_body
from nautilus_gateway.model import GatewayConfig, Listener, Upstream
from nautilus_gateway.pages import page_maps, pages_for
from nautilus_gateway.questions import challenge_map
from nautilus_gateway.syntax import Directive, block, directive, literal, lookup, quoted, write

_PLAIN_ON_TLS = 497
"""nginx's own status for plain HTTP on a port that speaks TLS."""
_KEPT_ALIVE = 16
"""Idle connections to each service that each worker keeps."""


class _NginxTemplate(Template):
    """`%{name}`, since `$` is nginx's own."""

    delimiter = "%"


def render(config: GatewayConfig) -> str:
    """The whole nginx.conf. Raises ConfigurationInvalid for a value that cannot be written."""
    template = _NginxTemplate(Path(__file__).with_name("nginx.conf.template").read_text(encoding="utf-8"))
    return template.substitute(
        user=f"user {quoted(literal(config.user))};" if config.user else "# Runs as whoever starts it.",
        workers=config.workers,
        drain=f"{config.limits.drain_s}s",
        pid_file=quoted(literal(config.pid_file)),
        error_log=quoted(literal(config.error_log)),
        connections=config.connections,
        request_error_level=literal(config.request_error_level),
        access_log=_access_log(config.access_log),
        temp_paths=write(_temp_paths(config.spool_dir), 1),
        body_limit=f"{config.limits.body_mib}m",
        held=f"{config.limits.held_s}s",
        sign_ins=f"{config.limits.sign_ins_per_minute}r/m",
        upstreams=write(map(_upstream, config.upstreams), 1),
        client=write(_client(config), 1),
        maps=write(_maps(config), 1),
        headers=write([*_request_headers(config), *response_headers()], 1),
        tls=write(_tls(config), 1),
        servers="\n\n".join(
            write([server], 1) for listener in config.listeners for server in _servers(listener, config)
        ),
    )


def _request_headers(config: GatewayConfig) -> list[Directive]:
    return request_headers(own=SPOOLED_HEADERS if config.has_uploads else {})


def _temp_paths(spool: Path) -> list[Directive]:
    others = ("proxy", "fastcgi", "uwsgi", "scgi")
    return [
        directive("client_body_temp_path", literal(spool)),
        *(directive(f"{name}_temp_path", literal(spool / f".{name}")) for name in others),
    ]


def _access_log(path: str) -> str:
    if not path:
        return "access_log off;"
    return f"access_log {quoted(literal(path))} failures if=$is_failure;"


def _upstream(upstream: Upstream) -> Directive:
    body = [
        directive("server", f"unix:{literal(upstream.socket)}", "max_fails=0"),
        directive("keepalive", _KEPT_ALIVE),
        directive("keepalive_requests", 1000000),
        directive("keepalive_timeout", "4s"),
    ]
    return block("upstream", upstream.name, body=body)


def _client(config: GatewayConfig) -> list[Directive]:
    trusted = [str(ip_network(network)) for network in config.trusted_proxies]
    real_ip = [
        *(directive("set_real_ip_from", network) for network in trusted),
        directive("real_ip_header", "X-Forwarded-For"),
        directive("real_ip_recursive", "on"),
    ]
    is_trusted = [directive("default", 0), *(directive(network, 1) for network in trusted)]
    return [
        *(real_ip if trusted else []),
        block("geo", "$realip_remote_addr", "$is_trusted_proxy", body=is_trusted),
        lookup(
            "$is_trusted_proxy:$http_x_forwarded_proto",
            "forwarded_proto",
            {"1:https": "https", "1:http": "http"},
            default="$scheme",
        ),
        lookup("$forwarded_proto", "hsts", {"https": f"max-age={config.hsts_s}"} if config.hsts_s else {}),
        lookup("$http_host", "forwarded_host", {"": "localhost:$server_port"}, default="$http_host"),
    ]


def _maps(config: GatewayConfig) -> list[Directive]:
    spooled = [lookup("$is_spooled", "body_file", {"1": "$request_body_file"})] if config.has_uploads else []
    git = git_maps(config.git) if config.git else []
    upgrade = [upgrade_map()] if config.has_passthrough else []
    return [
        *spooled,
        challenge_map(),
        *upgrade,
        *git,
        *page_maps(pages_for(config.upstreams, has_git=bool(git))),
    ]


def _tls(config: GatewayConfig) -> list[Directive]:
    if config.tls is None:
        return []
    return [
        directive("ssl_certificate", literal(config.tls.certificate)),
        directive("ssl_certificate_key", literal(config.tls.key)),
        directive("ssl_protocols", "TLSv1.2", "TLSv1.3"),
        directive("ssl_session_cache", "shared:tls:1m"),
        directive("ssl_session_timeout", "1d"),
        directive("ssl_session_tickets", "off"),
    ]


def _servers(listener: Listener, config: GatewayConfig) -> list[Directive]:
    """One server, and with TLS the one beside it that redirects."""
    routes = [directive("server_name", literal(listener.name)), *server_body(listener.routes, config)]
    if config.tls is None:
        return [block("server", body=[*_listens(config.addresses, listener.port), *routes])]
    inner = _listens((config.inner_address,) if config.inner_address else (), listener.port)
    tls_port = listener.tls_port or listener.port
    listens = [*_listens(config.addresses, tls_port, "ssl", "http2"), *inner]
    to_tls = directive("error_page", _PLAIN_ON_TLS, "=308", "https://$forwarded_host$request_uri")
    found = [block("server", body=[*listens, *routes, to_tls])]
    if listener.tls_port is not None:
        name = directive("server_name", literal(f"{listener.name}_redirect"))
        plain = _listens(config.addresses, listener.port)
        found.append(block("server", body=[*plain, name, *redirect_body(listener, config)]))
    return found


def _listens(addresses: Iterable[str], port: int, *options: str) -> list[Directive]:
    return [directive("listen", f"{literal(address)}:{port}", *options) for address in addresses]
