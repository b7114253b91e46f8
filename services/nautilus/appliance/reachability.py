"""Each derived address, asked from where it is used: from this machine, from a job's container, from the host."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nautilus.appliance.errors import ApplianceError
from nautilus.appliance.plan import Plan
from nautilus.appliance.settings import ApplianceSettings, trusted_ca_files

_SCRIPT = Path(__file__).with_name("probe.py")
_WITHIN_S = 45
LABEL = "nautilus.probe"


class NotProbed(ApplianceError):
    """The probe itself could not be run; the text says why."""


@dataclass(frozen=True)
class Target:
    """`kind`: pages, gitlab, registry or ssh. `setting`: what names another address for it."""

    name: str
    url: str
    kind: str
    setting: str


@dataclass(frozen=True)
class Answer:
    """`failure`: name (does not resolve), connect, tls, other (something else answers), '' where all is well."""

    target: Target
    failure: str
    detail: str


def targets_of_this_machine(plan: Plan) -> list[Target]:
    return [
        Target("pages", plan.web_url, "pages", "NAUTILUS_PORT"),
        Target("GitLab", plan.gitlab_url, "gitlab", "NAUTILUS_GITLAB_PORT"),
    ]


def targets_of_jobs(plan: Plan) -> list[Target]:
    return [
        Target("pages and tracking", plan.job_web_url, "pages", "NAUTILUS_JOB_URL"),
        Target("GitLab", plan.job_gitlab_url, "gitlab", "NAUTILUS_JOB_GITLAB_URL"),
    ]


def targets_of_people(plan: Plan, has_registry: bool, has_ssh: bool) -> list[Target]:
    host = f"[{plan.ssh_host}]" if ":" in plan.ssh_host else plan.ssh_host
    registry = Target(
        "container registry", plan.registry_external_url, "registry", "NAUTILUS_REGISTRY_EXTERNAL_URL"
    )
    ssh = Target("SSH", f"ssh://{host}:{plan.ssh_port}", "ssh", "NAUTILUS_SSH_PORT")
    return [
        Target("pages and tracking", plan.external_url, "pages", "NAUTILUS_EXTERNAL_URL"),
        Target("GitLab", plan.gitlab_external_url, "gitlab", "NAUTILUS_GITLAB_EXTERNAL_URL"),
        *([registry] if has_registry else []),
        *([ssh] if has_ssh else []),
    ]


def probe_here(targets: list[Target], ca: str, instance: str = "") -> list[Answer]:
    """From this very machine (or container). Raises NotProbed."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", _SCRIPT.read_text(), _question(targets, ca, instance)],
        capture_output=True,
        text=True,
        timeout=_WITHIN_S,
    )
    return _answers(targets, done.stdout, done.stderr)


def probe_in_container(
    targets: list[Target], ca: str, image: str, network: str, extra_hosts: list[str], instance: str = ""
) -> list[Answer]:
    """From a container as a job's is started, without rights; `network` '' is Docker's default. Raises NotProbed."""
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=_WITHIN_S)
        container = client.containers.create(
            image,
            entrypoint=["python3", "-I", "-c", _SCRIPT.read_text(), _question(targets, ca, instance)],
            command=[],
            labels={LABEL: "1"},
            user="65534:65534",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            read_only=True,
            pids_limit=64,
            mem_limit="256m",
            extra_hosts=dict(line.split(":", 1) for line in extra_hosts),
            network_mode=network or "bridge",
        )
        try:
            container.start()
            container.wait(timeout=_WITHIN_S)
            out, err = (
                container.logs(stdout=a, stderr=not a).decode(errors="replace") for a in (True, False)
            )
        finally:
            container.remove(force=True)
    except (DockerException, OSError) as error:
        raise NotProbed(_reason(error, image)) from error
    return _answers(targets, out, err)


def trusted_besides(settings: ApplianceSettings, plan: Plan) -> str:
    """PEM of what was added to the system's CAs: the own CA, and those that were given."""
    own = [settings.layout.ca_certificate] if plan.tls == "own-ca" else []
    return "\n".join(path.read_text() for path in (*own, *trusted_ca_files(settings)) if path.exists())


def _question(targets: list[Target], ca: str, instance: str) -> str:
    return json.dumps({"targets": [asdict(target) for target in targets], "ca": ca, "instance": instance})


def _answers(targets: list[Target], out: str, err: str) -> list[Answer]:
    try:
        told: list[dict[str, Any]] = json.loads(out.strip().splitlines()[-1])
    except (IndexError, ValueError):
        raise NotProbed(f"the probe did not answer: {' '.join(err.split())[-300:] or 'no output'}") from None
    return [Answer(target, one["failure"], one["detail"]) for target, one in zip(targets, told, strict=True)]


def _reason(error: Exception, image: str) -> str:
    text = " ".join(str(getattr(error, "explanation", None) or error).split())
    if "python3" in text and "not found" in text:
        return f"the image {image} has no python3 to ask with"
    return text[-300:]
