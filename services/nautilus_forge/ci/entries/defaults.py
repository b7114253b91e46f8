"""What `default` and a job both may say: the keywords that a job inherits.

Source: lib/gitlab/ci/config/entry/{default,root,job}.rb.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nautilus_forge.ci.entries.artifacts import read_artifacts
from nautilus_forge.ci.entries.cache import read_caches
from nautilus_forge.ci.entries.checks import Problems, Spot, check_keys, read_flag, read_script
from nautilus_forge.ci.entries.config import Defaults, Inherit
from nautilus_forge.ci.entries.image import read_image, read_services
from nautilus_forge.ci.entries.keywords import DEFAULT, TOP_LEVEL
from nautilus_forge.ci.entries.settings import read_hooks, read_retry, read_tags, read_timeout
from nautilus_forge.ci.values import YamlMap, place_of

_READERS: dict[str, tuple[str, Callable[[Any, Spot, Problems], Any]]] = {
    "before_script": ("before_script", read_script),
    "after_script": ("after_script", read_script),
    "image": ("image", read_image),
    "services": ("services", read_services),
    "cache": ("cache", read_caches),
    "artifacts": ("artifacts", read_artifacts),
    "interruptible": ("interruptible", read_flag),
    "retry": ("retry", read_retry),
    "tags": ("tags", read_tags),
    "timeout": ("timeout_s", read_timeout),
    "hooks": ("hooks", read_hooks),
}


def read_common(config: dict[Any, Any], spot: Spot, problems: Problems) -> dict[str, Any]:
    """What the mapping says of the inheritable keywords, by the names of the fields of `Defaults`."""
    found: dict[str, Any] = {}
    for key, (name, read) in _READERS.items():
        if key in config:
            value = read(config[key], spot.key(config, key), problems)
            if value is not None:
                found[name] = value
    return found


def read_defaults(config: YamlMap, problems: Problems) -> dict[str, Any]:
    """`default` together with the same keywords at the first level."""
    found: dict[str, Any] = {}
    default = config.get("default")
    spot = Spot("default", place_of(config, "default"))
    if default is not None and not isinstance(default, dict):
        problems.add("default config should be a hash", spot.place)
        default = None
    if default is not None:
        check_keys(default, DEFAULT, spot, problems)
        found = read_common(default, spot, problems)
    for key in TOP_LEVEL:
        if key not in config:
            continue
        name, read = _READERS[key]
        at = Spot(key, place_of(config, key))
        value = read(config[key], at, problems)
        if default is not None and key in default:
            problems.add(f"{key} is defined in top-level and `default:` entry", at.place)
        elif value is not None:
            found[name] = value
    return found


def inherit(own: dict[str, Any], defaults: dict[str, Any], rule: Inherit) -> Defaults:
    """What a job says, and where it says nothing, what it inherits."""
    if rule.default is False or not defaults:
        return Defaults(**own)
    if rule.default is True:
        return Defaults(**{**defaults, **own})
    allowed = {name for key, (name, _) in _READERS.items() if key in rule.default}
    taken = {name: value for name, value in defaults.items() if name in allowed}
    return Defaults(**{**taken, **own})
