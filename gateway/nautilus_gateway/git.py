"""Git over HTTP: authorised by the forge, served by `git http-backend`, with no service in the data path.

Which repository is served is decided by the forge's answer alone; nothing of the URL reaches git. The
shapes of the URLs, and the redirect of one without `.git`, are GitLab's (Source: gitlabhq
config/routes/git_http.rb, lib/constraints/repository_redirect_url_constrainer.rb).
"""

from __future__ import annotations

from pathlib import Path

from nautilus_gateway.headers import GIT_CREDENTIAL_HEADERS, NOT_HONOURED, ORIGINAL_HEADERS, request_headers
from nautilus_gateway.model import Git, Limits
from nautilus_gateway.questions import TAKEN_ASIDE, challenge, question
from nautilus_gateway.syntax import Directive, block, directive, literal, lookup

_SEGMENT = r"[A-Za-z0-9_.][A-Za-z0-9_.-]*"
_PROJECT = rf"(?!\S*/\.{{1,2}}/)/{_SEGMENT}(?:/{_SEGMENT})+"
"""A project's full path as GitLab allows it (ASCII, no percent sign), with no `.` or `..` segment."""

_NOT_A_COMMAND = "The command you're trying to execute is not allowed."
"""Where git's dumb protocol is asked for. Source: gitlabhq lib/gitlab/git_access.rb, `command_not_allowed`."""

_SERVE = Path(__file__).with_name("serve-git")
_SERVICES = ("git-upload-pack", "git-receive-pack")
_IDENTITY = {
    "$git_repository": "$upstream_http_x_git_repository",
    "$git_project_id": "$upstream_http_x_git_project_id",
    "$git_user_id": "$upstream_http_x_git_user_id",
    "$git_username": "$upstream_http_x_git_username",
    "$git_max_input_given": "$upstream_http_x_git_max_input_size",
}
"""Variable → header of the forge's 200."""

_IDENTITY_HEADERS = (
    "X-Git-Repository",
    "X-Git-Project-Id",
    "X-Git-User-Id",
    "X-Git-Username",
    "X-Git-Max-Input-Size",
    "X-Git-Protocol-Allowed",
)
"""What the forge says to the gateway alone."""


def git_maps(route: Git) -> list[Directive]:
    """Variables of every git request, each by the raw request line: what does not match is not git."""
    canonical = "$git_bare.git/info/refs$git_tail"
    asked = rf"(?:\?service=(?:{'|'.join(_SERVICES)}))?"
    services = {
        **{f"~^GET {_PROJECT}\\.git/info/refs\\?service={service}$": service for service in _SERVICES},
        **{f"~^POST {_PROJECT}\\.git/{service}$": service for service in _SERVICES},
    }
    return [
        lookup("$request_method $request_uri", "git_service", services),
        lookup(
            "$request_method $git_service",
            "git_path",
            {"~^GET git-": "/info/refs", **{f"POST {service}": f"/{service}" for service in _SERVICES}},
        ),
        lookup(
            "$request_method $git_service",
            "git_query",
            {"~^GET (?<git_asked>git-.+)$": "service=$git_asked"},
        ),
        lookup("$git_service", "is_not_git", {"": "1"}, default="0"),
        lookup("$git_service", "git_may_receive", {"git-receive-pack": "true"}, default="false"),
        lookup("$git_max_input_given", "git_max_input", {"": "0"}, default="$git_max_input_given"),
        lookup("$http_git_protocol", "git_protocol", {r"~^[A-Za-z0-9=:._-]{1,200}$": "$http_git_protocol"}),
        lookup(
            "$request_method $request_uri",
            "git_redirect",
            {f"~^GET (?<git_bare>{_PROJECT})/info/refs(?<git_tail>{asked})$": canonical},
        ),
        lookup("$authorize_status", "git_part", {"~^2": "git"}, default=route.forge.name),
    ]


def git_locations(route: Git, backend: str, limits: Limits) -> list[Directive]:
    """The data path, its two questions to the forge, and the redirect to the canonical URL."""
    return [
        _data(route, backend, limits),
        _redirect(route),
        _authorize(route),
        _denied(route),
        _failed(route),
    ]


def _data(route: Git, backend: str, limits: Limits) -> Directive:
    body = [
        block("if", "($is_not_git)", body=[directive("return", 403, _NOT_A_COMMAND)]),
        directive("default_type", "text/plain"),
        directive("auth_request", f"/_authorize/{route.forge.name}/git"),
        directive("auth_request_set", "$authorize_status", "$upstream_status"),
        *(directive("auth_request_set", name, header) for name, header in _IDENTITY.items()),
        directive("error_page", 401, 403, "=", f"@{route.forge.name}_git_denied"),
        directive("error_page", 500, "=", f"@{route.forge.name}_git_failed"),
        directive("error_page", 502, 504, "=503", "/_page/$git_part$page_kind"),
        directive("client_max_body_size", 0),
        directive("client_body_buffer_size", "256k"),
        directive("fastcgi_pass_request_headers", "off"),
        *(directive("fastcgi_param", *param) for param in _params(route, backend)),
        directive("fastcgi_ignore_headers", *NOT_HONOURED),
        directive("fastcgi_request_buffering", "off"),
        directive("fastcgi_buffer_size", "64k"),
        directive("fastcgi_buffers", 16, "64k"),
        directive("fastcgi_busy_buffers_size", "512k"),
        directive("fastcgi_max_temp_file_size", "1024m"),
        directive("fastcgi_connect_timeout", "60s"),
        directive("fastcgi_read_timeout", f"{limits.git_silence_s}s"),
        directive("fastcgi_send_timeout", f"{limits.git_silence_s}s"),
        directive("gzip", "off"),
        directive("fastcgi_pass", f"unix:{literal(route.responder)}"),
    ]
    return block("location", "~", r"\.git/(?:info/refs|git-upload-pack|git-receive-pack)$", body=body)


def _params(route: Git, backend: str) -> list[tuple[str, ...]]:
    """The whole environment of git and its hooks: nothing of the request's own headers is in it.

    No CONTENT_LENGTH: given one, `git http-backend` (seen with 2.39) reads in an endless loop when the client goes
    away before the last byte, and copies each byte once more when it does not. Without, it reads to the end.
    """
    return [
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SCRIPT_FILENAME", literal(_SERVE)),
        ("GIT_HTTP_BACKEND", literal(backend)),
        ("REQUEST_METHOD", "$request_method"),
        ("QUERY_STRING", "$git_query"),
        ("CONTENT_TYPE", "$content_type"),
        ("SERVER_PROTOCOL", "$server_protocol"),
        ("REMOTE_ADDR", "$remote_addr"),
        ("HTTP_CONTENT_ENCODING", "$http_content_encoding", "if_not_empty"),
        ("GIT_PROTOCOL", "$git_protocol", "if_not_empty"),
        ("GIT_PROJECT_ROOT", "$git_repository"),
        ("PATH_INFO", "$git_path"),
        ("GIT_HTTP_EXPORT_ALL", "1"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        *_settings(route),
        ("REMOTE_USER", "$git_username", "if_not_empty"),
        ("FORGE_PROJECT_ID", "$git_project_id"),
        ("FORGE_USER_ID", "$git_user_id"),
        ("FORGE_USERNAME", "$git_username"),
        ("FORGE_SOCKET", literal(route.forge.socket)),
        ("FORGE_REQUEST_ID", "$request_id"),
    ]


def _settings(route: Git) -> list[tuple[str, ...]]:
    """Git's settings of the highest precedence; `include.path`: what the forge says of all repositories."""
    shared = [("include.path", f"{literal(route.forge.files)}/gitconfig")] if route.forge.files else []
    pairs = [
        *shared,
        ("http.receivepack", "$git_may_receive"),
        ("safe.directory", "$git_repository"),
        ("receive.maxInputSize", "$git_max_input"),
    ]
    params: list[tuple[str, ...]] = [("GIT_CONFIG_COUNT", str(len(pairs)))]
    for number, (key, value) in enumerate(pairs):
        params += [(f"GIT_CONFIG_KEY_{number}", key), (f"GIT_CONFIG_VALUE_{number}", value)]
    return params


def _redirect(route: Git) -> Directive:
    body = [
        directive("set", "$part", route.forge.name),
        block("if", "($git_redirect)", body=[directive("return", 301, "$git_redirect")]),
        directive("proxy_pass", f"http://{route.forge.name}"),
    ]
    return block("location", "~", "/info/refs$", body=body)


def _authorize(route: Git) -> Directive:
    name = route.forge.name
    return question(
        f"/_authorize/{name}/git", f"http://{name}/internal/git/authorize", GIT_CREDENTIAL_HEADERS
    )


def _denied(route: Git) -> Directive:
    """The answer to a denied request is the forge's. The body is not waited for: it may be gigabytes."""
    body = [
        *request_headers(GIT_CREDENTIAL_HEADERS, ORIGINAL_HEADERS),
        directive("set", "$part", route.forge.name),
        directive("error_page", 502, 504, "=503", "/_page/$part$page_kind"),
        *challenge(),
        *(directive("proxy_hide_header", name) for name in _IDENTITY_HEADERS),
        directive("proxy_method", "GET"),
        directive("proxy_request_buffering", "off"),
        directive("client_max_body_size", 0),
        directive("rewrite", "^", "/internal/git/denied?", "break"),
        directive("proxy_pass", f"http://{route.forge.name}"),
    ]
    return block("location", f"@{route.forge.name}_git_denied", body=body)


def _failed(route: Git) -> Directive:
    """A question that was answered with neither 2xx, 401 nor 403: 4xx is a denial too, all else a dead part."""
    body = [
        directive("error_page", TAKEN_ASIDE, "=", f"@{route.forge.name}_git_denied"),
        directive("error_page", 503, "/_page/$git_part$page_kind"),
        block("if", "($authorize_status", "~", "^4)", body=[directive("return", TAKEN_ASIDE)]),
        directive("return", 503),
    ]
    return block("location", f"@{route.forge.name}_git_failed", body=body)
