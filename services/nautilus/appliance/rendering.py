"""Configuration of the programs, written from the plan: the gateway's nginx.conf, the runner's config.toml."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

from nautilus.appliance.accounts import Accounts
from nautilus.appliance.addresses import host_of, port_of
from nautilus.appliance.errors import MissingProgram
from nautilus.appliance.job_isolation import reachable
from nautilus.appliance.layout import Layout
from nautilus.appliance.plan import Plan
from nautilus.appliance.registry import choose_registry
from nautilus.appliance.settings import ApplianceSettings
from nautilus.appliance.tls import TRUST_VARIABLES
from nautilus_gateway import Tls
from nautilus_gateway.appliance import Ports, appliance_config
from nautilus_gateway.render import render


def ensure_gateway_configuration(
    settings: ApplianceSettings,
    plan: Plan,
    who: Accounts,
    tls: Tls | None = None,
    gitlab_socket: Path | None = None,
) -> None:
    """Writes etc/nginx.conf (`gitlab_socket`: Workhorse's, in the full edition)."""
    layout, ports = settings.layout, plan.ports
    config = appliance_config(
        layout.home,
        layout.run,
        ports=Ports(
            ports["web"],
            ports["management"],
            ports["gitlab"],
            ports.get("web_tls"),
            ports["registry"] if choose_registry(settings).is_on else None,
        ),
        addresses=tuple(f"[{address}]" if ":" in address else address for address in plan.listen),
        user=who.service if os.geteuid() == 0 else "",
        git_http_backend=git_http_backend(),
        gitlab_socket=gitlab_socket,
        tls=tls,
        published_tls_port=port_of(plan.external_url),
        inner_address=plan.inner_address,
        hsts_s=settings.hsts_s,
        instance=plan.instance,
        trusted_proxies=tuple(plan.trusted_proxies),
    )
    config = dataclasses.replace(config, error_log=str(layout.log / "nginx-error.log"))
    new = layout.etc / "nginx.conf.new"
    new.write_text(render(config))
    new.replace(layout.etc / "nginx.conf")


def git_http_backend() -> Path:
    """Git's own program for HTTP. Raises MissingProgram."""
    for folder in ("/usr/lib/git-core", "/usr/libexec/git-core", "/usr/local/libexec/git-core"):
        path = Path(folder) / "git-http-backend"
        if path.exists():
            return path
    raise MissingProgram("git-http-backend was not found: run `apt-get install git`, then start again")


def runner_configuration(layout: Layout, plan: Plan, who: Accounts, token: str, runner_id: int) -> str:
    """config.toml of the bundled runner (docs/reference/internals.md). Pure."""
    environment = job_environment(plan)
    lines = [
        f"concurrent = {plan.slots}",
        f"status_file = {toml(str(layout.runner_status))}",
        f"data_dir = {toml(str(layout.runner))}",
        "",
        "[[runners]]",
        'name = "bundled"',
        f"id = {runner_id}",
        f"url = {toml(plan.gitlab_url)}",
        f"token = {toml(token)}",
        f"clone_url = {toml(plan.gitlab_url)}",
        f"executor = {toml(plan.executor)}",
        f"environment = {toml(environment)}",
        f"default_environment = {toml(job_defaults(plan))}",
        f"tls_ca_file = {toml(plan.ca_bundle)}",
        f"registry = {toml(_registry(plan))}",
        f"nautilus_url = {toml(plan.web_url)}",
        f"network_mode = {toml(plan.job_network_mode)}",
        f"reachable = {toml(reachable(plan))}",
        "",
        "[runners.process]",
        f"user = {toml(who.job)}",
        f"path = {toml([str(layout.jobs / 'bin')])}",
        "",
        "[runners.docker]",
        f"image = {toml(plan.job_image)}",
        'host = ""',
        f"network = {toml(plan.docker_network)}",
        f"extra_hosts = {toml(plan.extra_hosts)}",
        'pull_policy = "if-not-present"',
        'allowed_pull_policies = ["if-not-present", "always"]',
    ]
    return "\n".join(lines) + "\n"


def _registry(plan: Plan) -> str:
    """host:port by which the daemon is told to reach the registry; "" where there is none, or no daemon."""
    if plan.executor != "docker" or not plan.has_registry:
        return ""
    return plan.registry_external_url.partition("://")[2]


def job_environment(plan: Plan) -> list[str]:
    """`NAME=value` for each job: how it reaches this appliance. Wins over the job's own variables. Pure."""
    in_docker = plan.executor == "docker"
    web = plan.job_web_url if in_docker else plan.web_url
    found = [f"NAUTILUS_URL={web}", f"MLFLOW_TRACKING_URI={web}"]
    if in_docker:
        gitlab = plan.job_gitlab_url
        found += [f"CI_SERVER_URL={gitlab}", f"CI_API_V4_URL={gitlab}/api/v4"]
    return found


def job_defaults(plan: Plan) -> list[str]:
    """`NAME=value` for each job, where neither the project nor the job says otherwise: CAs, package index. Pure."""
    found = []
    if plan.ca_bundle:  # the runner hands the bundle over as the file CI_SERVER_TLS_CA_FILE
        found += [f"{name}=$CI_SERVER_TLS_CA_FILE" for name in TRUST_VARIABLES]
    if plan.package_index:
        found += [f"PIP_INDEX_URL={plan.package_index}", f"UV_DEFAULT_INDEX={plan.package_index}"]
        if plan.package_index.startswith("http://"):
            found += [f"PIP_TRUSTED_HOST={host_of(plan.package_index)}"]
    if plan.debian_mirror:
        found.append(f"NAUTILUS_DEBIAN_MIRROR={plan.debian_mirror}")
    return found


def toml(value: str | list[str]) -> str:
    """TOML's basic strings and arrays of them are JSON's."""
    return json.dumps(value, ensure_ascii=False)
