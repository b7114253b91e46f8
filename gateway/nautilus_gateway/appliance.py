"""The gateway of the Nautilus appliance: which path on which port goes where.

The table is docs/reference/internals.md, section "Gateway"; here it is as values.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nautilus_gateway.gitlab import gitlab_everything, gitlab_sign_in, gitlab_upstream
from nautilus_gateway.model import (
    GatewayConfig,
    Git,
    Limits,
    Listener,
    Match,
    Matching,
    Proxy,
    Refuse,
    Route,
    Stream,
    Tls,
    Upload,
    Upstream,
)

JOB_ARTIFACTS = Match(r"^/api/v4/jobs/[0-9]+/artifacts$", Matching.REGEX)
LFS_OBJECTS = Match(r"\.git/gitlab-lfs/objects/[0-9a-f]+/[0-9]+$", Matching.REGEX)
TRACKED_ARTIFACTS = Match("/api/2.0/mlflow-artifacts/artifacts/", Matching.PREFIX_FIRST)
TRACKED_LISTING = Match("/api/2.0/mlflow-artifacts/artifacts", Matching.EXACT)
"""Said apart: nginx would redirect it to the folder above, with a slash that MLflow's listing does not have."""

RUNNERS_ANSWERS = Match("/api/v1/jobs/")
"""Files of running jobs, which their runners send as somebody reads them: nothing is put aside on the way."""

EVERYTHING = Match("/")


@dataclass(frozen=True)
class Ports:
    """Published ports. With a certificate all speak TLS but `web`, which leads to `web_tls`."""

    web: int = 8080
    management: int = 8081
    gitlab: int = 10080
    web_tls: int | None = None
    registry: int | None = None
    """None where there is no container registry."""


def appliance_config(
    home: Path,
    run: Path | None = None,
    *,
    ports: Ports | None = None,
    addresses: tuple[str, ...] = ("127.0.0.1",),
    user: str = "",
    git_http_backend: Path = Path("/usr/lib/git-core/git-http-backend"),
    gitlab_socket: Path | None = None,
    tls: Tls | None = None,
    published_tls_port: int | None = None,
    inner_address: str = "",
    hsts_s: int = 0,
    instance: str = "",
    trusted_proxies: tuple[str, ...] = (),
    access_log: str = "/dev/stdout",
    request_error_level: str = "alert",
    limits: Limits | None = None,
) -> GatewayConfig:
    """The configuration for the data folder `home`, whose sockets lie in `run` (`home/run` by default).

    With `gitlab_socket` (GitLab's Workhorse, in the full edition) that is GitLab, in place of the forge.
    Raises ConfigurationInvalid for values that cannot be served.
    """
    run, ports = run or home / "run", ports or Ports()
    forge = Upstream("forge", "The forge", "Git, projects, pipelines", run / "forge.sock", home / "forge")
    management = Upstream(
        "management",
        "The management service",
        "experiments, tracking, pages",
        run / "management.sock",
        home / "management",
    )
    health = Proxy(Match("/-/health", Matching.EXACT), management)
    web, gitlab = _web(forge, management), _gitlab(forge, management, run / "git.sock")
    if gitlab_socket is not None:
        server = gitlab_upstream(gitlab_socket)
        web, gitlab = (
            (health, *gitlab_sign_in(server), *_management_pages(management)),
            gitlab_everything(server),
        )
    web_tls = ports.web_tls if tls is not None else None
    listeners = (
        Listener("web", ports.web, web, web_tls, plain=(health,)),
        Listener("management", ports.management, _management(management)),
        Listener("gitlab", ports.gitlab, gitlab),
        *_registry(run / "registry.sock", ports.registry),
    )
    return GatewayConfig(
        listeners=listeners,
        spool_dir=home / "spool",
        pid_file=run / "nginx.pid",
        addresses=addresses,
        user=user,
        git_http_backend=git_http_backend,
        tls=tls,
        published_tls_port=published_tls_port,
        inner_address=inner_address if tls is not None else "",
        acme_dir=home / "acme",
        hsts_s=hsts_s,
        instance=instance,
        trusted_proxies=trusted_proxies,
        access_log=access_log,
        request_error_level=request_error_level,
        limits=limits or Limits(),
    )


def _web(forge: Upstream, management: Upstream) -> tuple[Route, ...]:
    """Sign-in is here too: browsers refuse port 10080 (https://fetch.spec.whatwg.org/#port-blocking)."""
    return (
        Upload(JOB_ARTIFACTS, forge, "POST", "artifacts"),
        *_sign_ins(forge),
        *(Proxy(Match(path), forge) for path in ("/api/v4/", "/users/", "/oauth/")),
        *_management_pages(management),
    )


def _management_pages(management: Upstream) -> tuple[Route, ...]:
    return (
        Upload(TRACKED_ARTIFACTS, management, "PUT", "tracking"),
        Proxy(TRACKED_LISTING, management),
        Stream(RUNNERS_ANSWERS, management),
        Proxy(EVERYTHING, management),
    )


def _management(management: Upstream) -> tuple[Route, ...]:
    return (
        Upload(TRACKED_ARTIFACTS, management, "PUT", "tracking"),
        Proxy(TRACKED_LISTING, management),
        Stream(RUNNERS_ANSWERS, management),
        *(Proxy(Match(path), management) for path in ("/api/v1/", "/api/2.0/", "/api/3.0/")),
        Proxy(Match("/-/health", Matching.EXACT), management),
        Refuse(EVERYTHING),
    )


def _gitlab(forge: Upstream, management: Upstream, responder: Path) -> tuple[Route, ...]:
    return (
        Git(forge, responder),
        Upload(LFS_OBJECTS, forge, "PUT", "lfs"),
        Upload(JOB_ARTIFACTS, forge, "POST", "artifacts"),
        *_sign_ins(forge),
        Proxy(Match("/-/health", Matching.EXACT), management),
        Proxy(EVERYTHING, forge),
    )


def _registry(socket: Path, port: int | None) -> tuple[Listener, ...]:
    """Docker's registry protocol, and nothing else; it asks for tokens at `/jwt/auth` of the `gitlab` listener."""
    if port is None:
        return ()
    registry = Upstream("registry", "The container registry", "container images", socket)
    routes = (Stream(Match("/v2/"), registry), Refuse(EVERYTHING))
    return (Listener("registry", port, routes),)


def _sign_ins(forge: Upstream) -> tuple[Route, ...]:
    paths = ("/users/sign_in", "/oauth/token")
    return tuple(Proxy(Match(path, Matching.EXACT), forge, is_sign_in=True) for path in paths)
