"""Configuration of the programs, written from the plan: the gateway's nginx.conf, the runner's config.toml."""

from __future__ import annotations

import json

from nautilus.appliance.accounts import Accounts
from nautilus.appliance.layout import Layout
from nautilus.appliance.plan import Plan


def ensure_gateway_configuration(layout: Layout, plan: Plan, who: Accounts) -> None:
    raise NotImplementedError


def runner_configuration(layout: Layout, plan: Plan, who: Accounts, token: str, runner_id: int) -> str:
    """config.toml of the bundled runner (docs/reference/internals.md). Pure."""
    in_docker = plan.executor == "docker"
    web = plan.job_web_url if in_docker else plan.web_url
    lines = [
        f"concurrent = {plan.slots}",
        f"status_file = {_toml(str(layout.runner_status))}",
        f"data_dir = {_toml(str(layout.runner))}",
        "",
        "[[runners]]",
        'name = "bundled"',
        f"id = {runner_id}",
        f"url = {_toml(plan.gitlab_url)}",
        f"token = {_toml(token)}",
        f"clone_url = {_toml(plan.job_gitlab_url if in_docker else plan.gitlab_url)}",
        f"executor = {_toml(plan.executor)}",
        f"environment = {_toml([f'NAUTILUS_URL={web}', f'MLFLOW_TRACKING_URI={web}'])}",
        "",
        "[runners.process]",
        f"user = {_toml(who.job)}",
        f"path = {_toml([str(layout.jobs / 'bin')])}",
        "",
        "[runners.docker]",
        f"image = {_toml(plan.job_image)}",
        'host = ""',
        f"network = {_toml(plan.docker_network)}",
        f"extra_hosts = {_toml(plan.extra_hosts)}",
        'pull_policy = "if-not-present"',
    ]
    return "\n".join(lines) + "\n"


def _toml(value: str | list[str]) -> str:
    """TOML's basic strings and arrays of them are JSON's."""
    return json.dumps(value, ensure_ascii=False)
