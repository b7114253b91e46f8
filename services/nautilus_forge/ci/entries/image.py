"""`image` and `services`.

Source: lib/gitlab/ci/config/entry/{imageable,image,service,services,pull_policy}.rb and
schemas/imageable/executor_opts.json.
"""

from __future__ import annotations

from typing import Any

from nautilus_forge.ci.entries.checks import Fields, Problems, Spot, check_keys, is_text_list
from nautilus_forge.ci.entries.keywords import DOCKER, IMAGE, SERVICE, Keywords
from nautilus_forge.ci.entries.variables import read_variables
from nautilus_forge.ci.model import Image

_PULL_POLICIES = ("always", "never", "if-not-present")


def read_image(value: Any, spot: Spot, problems: Problems) -> Image | None:
    """`image`: a name, or a mapping."""
    if value is None:
        return None
    return problems.shared("image", value, lambda: _read(value, spot, problems, IMAGE))


def read_services(value: Any, spot: Spot, problems: Problems) -> tuple[Image, ...] | None:
    """`services`: a sequence of names and mappings."""
    if value is None:
        return None
    if not isinstance(value, list):
        problems.add(f"{spot.where} config should be an array", spot.place)
        return None

    def read() -> tuple[Image, ...]:
        spots = [spot.item(value, i, "service") for i in range(len(value))]
        services = [_read(item, at, problems, SERVICE) for item, at in zip(value, spots, strict=True)]
        return tuple(service for service in services if service is not None)

    return problems.shared("services", value, read)


def _read(value: Any, spot: Spot, problems: Problems, keywords: Keywords) -> Image | None:
    if isinstance(value, str):
        if not value.strip():
            problems.add(f"{spot.where} name can't be blank", spot.place)
            return None
        return Image(value)
    if not isinstance(value, dict):
        problems.add(f"{spot.where} config should be a hash or a string", spot.place)
        return None
    check_keys(value, keywords, spot, problems)
    fields = Fields(value, spot, problems)
    name = fields.text("name")
    if value.get("name") is None or name == "":
        fields.fail("name", "can't be blank")
        return None
    variables = read_variables(value.get("variables"), spot.key(value, "variables"), problems)
    platform, user = _docker(value.get("docker"), spot.key(value, "docker"), problems)
    return Image(
        name or "",
        entrypoint=fields.texts("entrypoint"),
        alias=fields.text("alias"),
        command=fields.texts("command"),
        pull_policy=_pull_policy(value.get("pull_policy"), spot.key(value, "pull_policy"), problems),
        variables={variable.key: variable.value for variable in variables or ()},
        docker_user=user,
        docker_platform=platform,
    )


def _pull_policy(value: Any, spot: Spot, problems: Problems) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        if value not in _PULL_POLICIES:
            problems.add(f"{spot.where} config is not included in the list", spot.place)
        return (value,)
    if not is_text_list(value):
        problems.add(f"{spot.where} config should be an array of strings or a string", spot.place)
        return ()
    if not value:
        problems.add(f"{spot.where} config can't be blank", spot.place)
    if unknown := [item for item in value if item not in _PULL_POLICIES]:
        problems.add(f"{spot.where} config contains unknown values: {', '.join(unknown)}", spot.place)
    return tuple(value)


def _docker(value: Any, spot: Spot, problems: Problems) -> tuple[str | None, str | None]:
    """Platform and user."""
    if value is None:
        return None, None
    if not isinstance(value, dict):
        problems.add(f"{spot.where} config should be a hash", spot.place)
        return None, None
    check_keys(value, DOCKER, spot, problems)
    fields = Fields(value, spot, problems)
    return fields.text("platform"), fields.text("user")
