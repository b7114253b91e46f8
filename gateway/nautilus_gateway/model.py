"""What the gateway serves, as values: upstreams, routes, listeners and the limits that hold for all.

`appliance.py` builds the one configuration that Nautilus runs with; `render.py` writes any of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Literal

from nautilus_gateway.errors import ConfigurationInvalid

MIB = 1 << 20
SOCKET_PATH_LIMIT_BYTES = 107
"""Longest path of a unix socket (Linux: sun_path holds 108 bytes with the final NUL)."""


@dataclass(frozen=True)
class Upstream:
    """A service behind the gateway, reached over HTTP/1.1 on a unix socket.

    `name` is a lower-case word: part of internal locations and what `/-/health` calls it. `title`, `serves`:
    for the page that says that it does not answer. `files`: the folder whose files it may send by
    `X-Accel-Redirect: /_<name>/<path>`; None where such an answer must open nothing.
    """

    name: str
    title: str
    serves: str
    socket: Path
    files: Path | None = None


class Matching(StrEnum):
    """How a route's text is compared with the decoded, normalised path; the order is nginx's precedence."""

    EXACT = "="
    PREFIX_FIRST = "^~"
    REGEX = "~"
    PREFIX = ""


@dataclass(frozen=True)
class Match:
    text: str
    how: Matching = Matching.PREFIX


@dataclass(frozen=True)
class Proxy:
    """The request goes to `upstream` as it came. `is_sign_in`: POSTs are limited in rate, by address."""

    match: Match
    upstream: Upstream
    is_sign_in: bool = False


@dataclass(frozen=True)
class Upload:
    """As Proxy, but a body of `method` is authorised first, spooled, and handed over by path.

    `kind`: a lower-case word, the folder of the spool that such bodies lie in. A kind is one upstream's.
    """

    match: Match
    upstream: Upstream
    method: Literal["POST", "PUT"]
    kind: str


@dataclass(frozen=True)
class Stream:
    """As Proxy, but bodies of any length and both ways as they come: nothing is put aside on the disk."""

    match: Match
    upstream: Upstream


@dataclass(frozen=True)
class Git:
    """Git's smart HTTP protocol: authorised by `forge`, served by git itself at the `responder` socket."""

    forge: Upstream
    responder: Path


@dataclass(frozen=True)
class Refuse:
    """Nothing is served here: 404."""

    match: Match


@dataclass(frozen=True)
class Passthrough:
    """As Proxy, for a whole server of its own (GitLab's Workhorse): all headers but those that say who speaks,
    bodies of any length as they come, and WebSockets. What it answers opens no file of ours."""

    match: Match
    upstream: Upstream


Route = Proxy | Upload | Stream | Git | Refuse | Passthrough


@dataclass(frozen=True)
class Tls:
    """PEM files; nginx's master reads them, so they may be root's alone."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Listener:
    """One set of routes on a port. With TLS configured the port speaks TLS; where there is a `tls_port` that one
    does, and `port` sends people there (all but `plain` goes by 308).
    """

    name: str
    port: int
    routes: tuple[Route, ...]
    tls_port: int | None = None
    plain: tuple[Route, ...] = ()


@dataclass(frozen=True)
class Limits:
    """Bounds that hold on every listener."""

    body_mib: int = 300
    """Longest body of an ordinary request (a commit through the API carries its files); more is 413."""
    upload_mib: int = 0
    """Longest spooled upload; 0 is none: the service and the disk decide."""
    sign_ins_per_minute: int = 20
    """Per client address, as many again at once; more is 429."""
    held_s: int = 300
    """Longest silence of a service before the gateway gives up: above the 60 s of a held jobs/request."""
    git_silence_s: int = 3600
    """Longest silence of git, which says nothing while it checks a large push."""
    stream_silence_s: int = 900
    """Longest silence of what is streamed (the registry says nothing while it checks a large layer)."""
    drain_s: int = 600
    """After a reload, how long old connections may go on."""


@dataclass(frozen=True)
class GatewayConfig:
    """Everything that the rendered file depends on. All paths are absolute.

    Raises ConfigurationInvalid when built from values that contradict one another.
    """

    listeners: tuple[Listener, ...]
    spool_dir: Path
    """Request bodies, on the file system of the services' own folders, so that they can be renamed; and, in
    hidden folders that nginx makes, what it puts aside for slow clients. Emptied only while nginx is down."""
    pid_file: Path
    addresses: tuple[str, ...] = ("127.0.0.1",)
    """Addresses to listen on; IPv6 in brackets."""
    user: str = ""
    """Account, with a group of the same name, of the workers when nginx starts as root; '' otherwise."""
    workers: int = 2
    connections: int = 2560
    """Per worker; a proxied request takes two, and a runner that waits for a job is one. About 0.4 KiB each."""
    git_http_backend: Path = Path("/usr/lib/git-core/git-http-backend")
    error_log: str = "stderr"
    request_error_level: str = "alert"
    """Level from which failures *of requests* are logged. Below `alert` nginx writes the request's whole
    first line, and GitLab's API takes tokens in the query: `error` is for hunting a fault, not for good."""
    access_log: str = "/dev/stdout"
    """File for requests that failed (status 400 and above), as JSON lines without query; '' is none."""
    tls: Tls | None = None
    published_tls_port: int | None = None
    """Where people reach the first `tls_port`, for redirects; None: at that very port."""
    inner_address: str = ""
    """With TLS: an address of this machine alone where every listener's `port` speaks plain HTTP; '' is none."""
    acme_dir: Path | None = None
    """Folder whose `.well-known/acme-challenge/` is served on redirecting ports, for certificates by ACME."""
    hsts_s: int = 0
    """Seconds of Strict-Transport-Security on answers over TLS, ours or a trusted proxy's; 0 sends none."""
    instance: str = ""
    """What `/-/nautilus` answers on every listener, by which one appliance is told from another; '' is no such path."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks (CIDR) whose X-Forwarded-For and X-Forwarded-Proto are believed."""
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        ports = [port for one in self.listeners for port in (one.port, one.tls_port) if port is not None]
        for port in ports:
            if not 0 < port < 65536:
                raise ConfigurationInvalid(f"not a port: {port}")
            if ports.count(port) > 1:
                raise ConfigurationInvalid(f"port {port} is asked for twice")
        for path in (self.spool_dir, self.pid_file, *self.sockets, *self.folders):
            if not path.is_absolute() or ".." in path.parts:
                raise ConfigurationInvalid(f"not an absolute path: {path}")
        for socket in self.sockets:
            if len(str(socket).encode()) > SOCKET_PATH_LIMIT_BYTES:
                raise ConfigurationInvalid(f"longer than {SOCKET_PATH_LIMIT_BYTES} bytes: {socket}")
        for address in (*self.addresses, *filter(None, [self.inner_address])):
            try:
                ip_address(address.removeprefix("[").removesuffix("]"))
            except ValueError as error:
                raise ConfigurationInvalid(f"not an address: {address}") from error
        for network in self.trusted_proxies:
            try:
                ip_network(network)
            except ValueError as error:
                raise ConfigurationInvalid(f"not a network: {network}") from error

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """Every upstream that a route names, each once, in the order of the routes."""
        found: dict[str, Upstream] = {}
        for listener in self.listeners:
            for upstream in upstreams_of(listener.routes):
                if found.setdefault(upstream.name, upstream) != upstream:
                    raise ConfigurationInvalid(f"two upstreams are called {upstream.name}")
        return tuple(found.values())

    @property
    def has_uploads(self) -> bool:
        return any(isinstance(route, Upload) for one in self.listeners for route in one.routes)

    @property
    def has_passthrough(self) -> bool:
        return any(isinstance(route, Passthrough) for one in self.listeners for route in one.routes)

    @property
    def git(self) -> Git | None:
        """The one git route, which any number of listeners may serve."""
        routes = {route for one in self.listeners for route in one.routes if isinstance(route, Git)}
        if len(routes) > 1:
            raise ConfigurationInvalid("git can have one forge and one responder only")
        return routes.pop() if routes else None

    @property
    def sockets(self) -> tuple[Path, ...]:
        responders = (self.git.responder,) if self.git else ()
        return (*(upstream.socket for upstream in self.upstreams), *responders)

    @property
    def folders(self) -> tuple[Path, ...]:
        named = [upstream.files for upstream in self.upstreams] + [self.acme_dir]
        return tuple(folder for folder in named if folder is not None)


def upstreams_of(routes: Iterable[Route]) -> tuple[Upstream, ...]:
    """The upstreams that the routes name, each once."""
    found: dict[str, Upstream] = {}
    for route in routes:
        match route:
            case (
                Proxy(upstream=upstream)
                | Upload(upstream=upstream)
                | Stream(upstream=upstream)
                | Git(forge=upstream)
                | Passthrough(upstream=upstream)
            ):
                found[upstream.name] = upstream
            case Refuse():
                pass
    return tuple(found.values())
