"""What `nautilus doctor` says of the addresses: each asked from where it is used, with the way out."""

from __future__ import annotations

from nautilus.appliance import folders
from nautilus.appliance.accounts import ensure_accounts
from nautilus.appliance.addresses import host_of, port_of
from nautilus.appliance.plan import Plan, read_plan
from nautilus.appliance.reachability import (
    Answer,
    NotProbed,
    Target,
    probe_here,
    probe_in_container,
    targets_of_jobs,
    targets_of_people,
    targets_of_this_machine,
    trusted_besides,
)
from nautilus.appliance.registry import choose_registry
from nautilus.appliance.settings import ApplianceSettings
from nautilus.appliance.sshd import choose_ssh
from nautilus.cli.findings import Finding

_PLACES = {"here": "from here", "job": "from a job", "host": "from the host"}


def check_addresses(settings: ApplianceSettings) -> list[Finding]:
    """Nothing while the appliance does not run."""
    plan = read_plan(settings.layout.appliance_file)
    if plan is None or not folders.is_locked(settings.layout):
        return [Finding("addresses", "ok", "asked while the appliance runs")]
    ca = trusted_besides(settings, plan)
    return [*_from_here(plan), *_from_jobs(plan, ca), *_from_host(settings, plan, ca)]


def _from_here(plan: Plan) -> list[Finding]:
    return [
        _finding("here", answer, plan)
        for answer in probe_here(targets_of_this_machine(plan), "", plan.instance)
    ]


def _from_jobs(plan: Plan, ca: str) -> list[Finding]:
    """As process jobs share this machine, only jobs in containers are another place."""
    if plan.executor != "docker" or plan.bundled_runner == "off":
        return []
    try:
        answers = probe_in_container(
            targets_of_jobs(plan), ca, plan.job_image, plan.docker_network, plan.extra_hosts, plan.instance
        )
    except NotProbed as error:
        return [Finding(_PLACES["job"], "warning", f"not asked: {error}", "see the line `docker`")]
    return [_finding("job", answer, plan) for answer in answers]


def _from_host(settings: ApplianceSettings, plan: Plan, ca: str) -> list[Finding]:
    """In the image, from a container on the host's network; best effort, since people sit elsewhere still."""
    targets = targets_of_people(
        plan, choose_registry(settings).is_on, choose_ssh(settings, ensure_accounts()).is_on
    )
    if not settings.in_image:
        return [_finding("host", answer, plan) for answer in probe_here(targets, ca, plan.instance)]
    without = [Finding(_PLACES["host"], "ok", "not asked: that needs the Docker socket")]
    if plan.executor != "docker":
        return without
    try:
        answers = probe_in_container(targets, ca, plan.job_image, "host", [], plan.instance)
    except NotProbed as error:
        if plan.bundled_runner == "off":
            return without
        return [Finding(_PLACES["host"], "warning", f"not asked: {error}", "see the line `docker`")]
    return [_finding("host", answer, plan) for answer in answers]


def _finding(place: str, answer: Answer, plan: Plan) -> Finding:
    target = answer.target
    if not answer.failure:
        return Finding(_PLACES[place], "ok", f"{target.name} at {target.url}")
    what = {
        "name": f"{host_of(target.url)} is not known",
        "connect": "nothing answers",
        "tls": "the certificate is not trusted",
        "other": "something else answers",
    }[answer.failure]
    detail = f"{target.name} at {target.url}: {what} ({answer.detail})"
    state = "warning" if place == "host" else "error"
    return Finding(_PLACES[place], state, detail, _mend(place, target, answer.failure, plan))


def _mend(place: str, target: Target, failure: str, plan: Plan) -> str:
    if place == "here":
        return "nautilus status; nautilus logs gateway"
    if failure == "tls":
        return (
            "set NAUTILUS_CA_FILE to the CA of the certificate"
            if place == "job"
            else "let clients trust its CA (`nautilus config ca`), or use a certificate that they trust"
        )
    if place == "job":
        network = plan.docker_network or "Docker's default network"
        return (
            f"jobs are on {network}: set NAUTILUS_JOB_NETWORK to a network that this appliance is on, or "
            f"{target.setting} to an address that reaches it from there (docs/how-to/separate-network.md)"
        )
    if failure == "name":
        return f"put {host_of(target.url)} into the DNS, or set {target.setting} to a name or address that is known"
    inner = {"pages": "web_tls" if plan.speaks_tls else "web"}.get(target.kind, target.kind)
    port = plan.ssh_port if target.kind == "ssh" else port_of(target.url)
    publish = f"`--publish {port}:{plan.ports[inner]}`"
    return f"publish the port ({publish}), or set {target.setting} to where it is published"
