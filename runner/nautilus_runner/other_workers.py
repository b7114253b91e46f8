"""Variables and words of the workers that Nautilus takes the place of: what each means here, or why it is not needed.

Source: the manuals of MLCycle's worker and of Dioptra's (`dioptra-worker-v1`).
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

_ADDRESSES = {"MLCYCLE_HOST": "/api", "DIOPTRA_API": "/api/v1"}
"""Where those workers find their server; what follows the address there is no part of ours."""
_SAME = {
    "MLCYCLE_RUNTIME": "NAUTILUS_RUNNER_DOCKER_RUNTIME",
    "MLCYCLE_VISIBLE_GPUS": "NAUTILUS_RUNNER_GPUS",
    "DIOPTRA_WORKER_USERNAME": "NAUTILUS_RUNNER_NAME",
}
_FOR_JOBS = ("MLFLOW_TRACKING_URI", "MLFLOW_S3_ENDPOINT_URL")
_NOT_NEEDED = {
    "MLCYCLE_VOLUME": "each job has a volume of its own, removed with it",
    "RQ_REDIS_URI": "jobs come from the server itself",
    "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "the runner is for Linux",
}
_OWN_PREFIXES = ("glrt-", "glrtr-")
KNOWN = (*_ADDRESSES, *_SAME, *_FOR_JOBS, *_NOT_NEEDED, "DIOPTRA_WORKER_PASSWORD")


@dataclass(frozen=True)
class Translation:
    """`variables` are what to set besides; `notes` say in one line each what became of the rest."""

    variables: dict[str, str]
    notes: tuple[str, ...]


def translate(environ: Mapping[str, str]) -> Translation:
    """What the variables of other workers mean here. What our own variables say stays. Pure."""
    given = {name: environ[name].strip() for name in KNOWN if environ.get(name, "").strip()}
    found: dict[str, str] = {}
    notes: list[str] = []
    for name, rest in _ADDRESSES.items():
        if name in given:
            found["NAUTILUS_URL"] = given[name].rstrip("/").removesuffix(rest)
    found |= {ours: given[name] for name, ours in _SAME.items() if name in given}
    if password := given.get("DIOPTRA_WORKER_PASSWORD"):
        if password.startswith(_OWN_PREFIXES):
            found["NAUTILUS_RUNNER_TOKEN"] = password
        else:
            notes.append(
                "DIOPTRA_WORKER_PASSWORD is not used: workers have tokens here. Make one with `nautilus runner add` "
                "and set NAUTILUS_RUNNER_TOKEN (or DIOPTRA_WORKER_PASSWORD) to it"
            )
    if "DIOPTRA_API" in given:  # these names are MLflow's own too: only a worker of Dioptra's passes them on
        pairs = [f"{name}={given[name]}" for name in _FOR_JOBS if name in given]
        if pairs:
            found["NAUTILUS_RUNNER_DEFAULT_ENVIRONMENT"] = ",".join(pairs)
    notes += [f"{name} is not needed: {why}" for name, why in _NOT_NEEDED.items() if name in given]
    if "NAUTILUS_URL" in found and not _has_token({**found, **environ}):
        source = next(name for name in _ADDRESSES if name in given)
        notes.append(
            f"{source} says where the server is; who this worker is says NAUTILUS_RUNNER_TOKEN (from `nautilus runner "
            "add`) or NAUTILUS_REGISTRATION_TOKEN"
        )
    own = {name: value for name, value in found.items() if not environ.get(name)}
    return Translation(own, tuple(notes))


def adopt(environ: MutableMapping[str, str]) -> tuple[str, ...]:
    """Set what the variables of other workers mean; returns the notes. For entry points."""
    found = translate(environ)
    environ.update(found.variables)
    return found.notes


def _has_token(environ: Mapping[str, str]) -> bool:
    names = (
        *("NAUTILUS_RUNNER_TOKEN", "CI_SERVER_TOKEN"),
        *("NAUTILUS_REGISTRATION_TOKEN", "REGISTRATION_TOKEN"),
    )
    return any(environ.get(name) for name in names)
