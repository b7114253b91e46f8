"""Names of repositories: `group/project`, or up to two levels below it.

Source: gitlabhq lib/container_registry/path.rb, lib/gitlab/regex.rb (`container_repository_name_regex`);
the grammar of names is https://distribution.github.io/distribution/spec/api/ ("Overview").
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_NAME = re.compile(r"[a-z0-9]+(?:(?:[._/]|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_LONGEST = 255
_MOST_PARTS = 20
_LEVELS_BELOW = 2


def normalised(name: str) -> str | None:
    """The name in lower case, None where a registry knows no such name."""
    path = name.lower()
    parts = path.count("/") + 1
    if len(path) > _LONGEST or not 1 < parts <= _MOST_PARTS or not _NAME.fullmatch(path):
        return None
    return path


def candidates(path: str) -> Sequence[str]:
    """The full paths of projects that the repository may belong to, the longest first."""
    parts = path.split("/")
    shortest = max(2, len(parts) - _LEVELS_BELOW)
    return ["/".join(parts[:length]) for length in range(len(parts), shortest - 1, -1)]


def name_below(path: str, project_path: str) -> str:
    """The part of the repository's path that is below its project, '' for the project's own."""
    return path[len(project_path) :].lstrip("/")


def is_tag(name: str) -> bool:
    return _TAG.fullmatch(name) is not None
