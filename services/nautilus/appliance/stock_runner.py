"""GitLab's own gitlab-runner as the bundled runner: where its program lies, and its config.toml.

Source: gitlab-runner 16.11 `common/config.go`, docs/configuration/{advanced-configuration,gpus}.md.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nautilus.appliance.errors import MissingProgram, SettingError
from nautilus.appliance.plan import Plan
from nautilus.appliance.rendering import job_defaults, job_environment, toml

MOUNTED = Path("/opt/gitlab-runner/gitlab-runner")
"""Where a binary may be mounted into the container."""

OUTPUT_LIMIT_KIB = 1 << 20
"""Of one job's log, as our own runner's; gitlab-runner's default is 4 MiB."""

SHUTDOWN_S = 5
"""Below the 8 s that supervisord waits; `docker stop` waits 10."""


@dataclass(frozen=True)
class GpuEntry:
    """One GPU's own registration: `uuid` as NVML says it."""

    name: str
    uuid: str
    runner_id: int
    token: str = field(repr=False)


def find_stock_runner(named: str | None = None) -> str:
    """NAUTILUS_GITLAB_RUNNER, else the mounted one, else the PATH's. Raises MissingProgram, SettingError."""
    if named:
        if not os.access(named, os.X_OK) or not Path(named).is_file():
            raise SettingError(f"NAUTILUS_GITLAB_RUNNER={named!r}: there is no program that can be run")
        return named
    mounted = str(MOUNTED) if os.access(MOUNTED, os.X_OK) and MOUNTED.is_file() else None
    found = mounted or shutil.which("gitlab-runner")
    if not found:
        raise MissingProgram(
            f"NAUTILUS_BUNDLED_RUNNER=gitlab, but gitlab-runner was not found: mount its binary at {MOUNTED}, "
            "install it, or name it with NAUTILUS_GITLAB_RUNNER"
        )
    return found


def refuse_without_docker(plan: Plan) -> None:
    """Its shell executor would run jobs as the runner itself. Raises SettingError."""
    if plan.executor != "docker":
        raise SettingError(
            "NAUTILUS_BUNDLED_RUNNER=gitlab runs jobs in containers alone, and here they would not "
            f"({plan.executor_reason}): mend that and set NAUTILUS_EXECUTOR=docker, or use our runner"
        )


def stock_runner_configuration(plan: Plan, token: str, runner_id: int, gpus: Sequence[GpuEntry]) -> str:
    """config.toml: an entry without GPUs, then one for each GPU with `limit = 1`. Pure.

    No privileged mode, no socket, no folder of this machine in any job. No [session_server]: no port is opened.
    """
    lines = [
        f"concurrent = {plan.slots + len(gpus)}",
        "check_interval = 1",
        'log_format = "json"',
        f"shutdown_timeout = {SHUTDOWN_S}",
        *_entry(plan, "bundled", runner_id, token, limit=plan.slots),
    ]
    for gpu in gpus:
        lines += _entry(plan, gpu.name, gpu.runner_id, gpu.token, limit=1)
        lines.append(f"    gpus = {toml(f'device={gpu.uuid}')}")
    return "\n".join(lines) + "\n"


def shared_gitlab_url(plan: Plan) -> str:
    """GitLab's address, good here and in a job's container: its helper container uploads artifacts to the same `url`.

    Containers know us by a name that only they resolve: so its address, which the own CA's certificate has too; a
    certificate of the user's is made out to the name.
    """
    addresses = dict(host.split(":", 1) for host in plan.extra_hosts)
    address = addresses.get(plan.job_host, "")
    if plan.tls == "files" or plan.job_gitlab_url_set or not address:
        return plan.job_gitlab_url
    scheme = "https" if plan.speaks_tls else "http"
    return f"{scheme}://{f'[{address}]' if ':' in address else address}:{plan.ports['gitlab']}"


def _entry(plan: Plan, name: str, runner_id: int, token: str, limit: int) -> list[str]:
    own = job_environment(plan)
    # Its `environment` yields to the job's own variables; what must win is exported before the script.
    exports = "export " + " ".join(shlex.quote(one) for one in own)
    lines = [
        "",
        "[[runners]]",
        f"  name = {toml(name)}",
        f"  id = {runner_id}",
        f"  url = {toml(shared_gitlab_url(plan))}",
        f"  token = {toml(token)}",
        '  executor = "docker"',
        f"  limit = {limit}",
        f"  output_limit = {OUTPUT_LIMIT_KIB}",
        f"  clone_url = {toml(plan.job_gitlab_url)}",
        f"  environment = {toml([*job_defaults(plan), *own])}",
        f"  pre_build_script = {toml(exports)}",
        *([f"  tls-ca-file = {toml(plan.ca_bundle)}"] if plan.ca_bundle else []),
        "  [runners.docker]",
        f"    image = {toml(plan.job_image)}",
        '    pull_policy = ["if-not-present"]',
        "    privileged = false",
        '    cap_drop = ["AUDIT_WRITE", "MKNOD", "NET_RAW", "SYS_CHROOT"]',
        '    security_opt = ["no-new-privileges"]',
        '    volumes = ["/cache"]',
        f"    extra_hosts = {toml(plan.extra_hosts)}",
    ]
    if plan.docker_network:
        lines.append(f"    network_mode = {toml(plan.docker_network)}")
    if plan.gitlab_runner_helper:
        lines.append(f"    helper_image = {toml(plan.gitlab_runner_helper)}")
    return lines
