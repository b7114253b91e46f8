"""GitLab CE behind the gateway: its Workhorse gets what it would get from GitLab's own nginx.

Source: omnibus-gitlab files/gitlab-cookbooks/nginx/templates/default/nginx-gitlab-http.conf.erb and
doc/settings/nginx.md ("Using a non-bundled web-server").
"""

from __future__ import annotations

from pathlib import Path

from nautilus_gateway.headers import GATEWAY_HEADERS, NOT_HONOURED
from nautilus_gateway.model import Limits, Match, Passthrough, Upstream
from nautilus_gateway.syntax import Directive, directive, lookup, unbuffered

_SIGN_IN_PATHS = ("/api/v4/", "/users/", "/oauth/", "/assets/", "/uploads/-/", "/-/")
"""What GitLab's sign-in needs on another port than GitLab's own: the API, its pages, their files, and `/-/`
(terms, two factors, profile)."""

_IDENTITY_HEADERS = ("Forwarded", "Client-IP", "X-Forwarded-Port", "X-Forwarded-Scheme", "X-Forwarded-Ssl")
"""What Rails would believe about who speaks: never the client's word. Source: rack lib/rack/request.rb."""


def gitlab_upstream(socket: Path) -> Upstream:
    return Upstream("gitlab", "GitLab", "Git, projects, pipelines", socket)


def gitlab_everything(gitlab: Upstream) -> tuple[Passthrough, ...]:
    """GitLab's own port: all of it, git and `/-/health` included."""
    return (Passthrough(Match("/"), gitlab),)


def gitlab_sign_in(gitlab: Upstream) -> tuple[Passthrough, ...]:
    """On the web port, since browsers refuse port 10080 (https://fetch.spec.whatwg.org/#port-blocking)."""
    return tuple(Passthrough(Match(path), gitlab) for path in _SIGN_IN_PATHS)


def upgrade_map() -> Directive:
    """`$connection_upgrade`: a WebSocket's request is passed on as one, any other keeps its connection."""
    return lookup("$http_upgrade", "connection_upgrade", {"": ""}, default="upgrade")


def passing_through(route: Passthrough, limits: Limits) -> list[Directive]:
    """The inside of the location. Setting one header undoes what is inherited, so all of ours are said again."""
    sent = dict(GATEWAY_HEADERS) | {"X-Real-IP": "$remote_addr"}
    sent |= {"Upgrade": "$http_upgrade", "Connection": "$connection_upgrade"}
    sent |= dict.fromkeys(_IDENTITY_HEADERS, "")
    return [
        directive("set", "$part", route.upstream.name),
        *unbuffered(limits.git_silence_s),
        directive("proxy_pass_request_headers", "on"),
        *(directive("proxy_set_header", name, value) for name, value in sent.items()),
        directive("proxy_ignore_headers", *NOT_HONOURED),
        directive("proxy_pass", f"http://{route.upstream.name}"),
    ]
