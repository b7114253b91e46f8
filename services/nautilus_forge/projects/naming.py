"""Names and paths of projects.

Source: gitlabhq lib/gitlab/regex.rb (`project_name_regex`), app/validators/project_path_validator.rb.
"""

from __future__ import annotations

import re
import unicodedata

_NAME = re.compile(r"[\w\u00a9-\U0001f9ff][\w\u00a9-\U0001f9ff\-–—.+ ]*")
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_TWO_SPECIAL = re.compile(r"[._-]{2}")
_RESERVED = frozenset(
    {"-", "badges", "blame", "blob", "builds", "commits", "create", "edit", "files", "info", "new"}
)


def path_of_name(name: str) -> str:
    """`My Digits!` → `my-digits`."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii").lower()
    return re.sub(r"-{2,}", "-", re.sub(r"[^a-z0-9_-]+", "-", plain)).strip("-")


def name_problems(name: str) -> list[str]:
    if not name.strip():
        return ["can't be blank"]
    if len(name) > 255:
        return ["is too long (maximum is 255 characters)"]
    if _NAME.fullmatch(name):
        return []
    return [
        "can contain only letters, digits, emoji, '_', '.', '+', dashes, or spaces. "
        "It must start with a letter, digit, emoji, or '_'."
    ]


def path_problems(path: str) -> list[str]:
    if not path:
        return ["can't be blank"]
    if len(path) > 255:
        return ["is too long (maximum is 255 characters)"]
    if path.lower() in _RESERVED:
        return [f"{path} is a reserved name"]
    bad_end = path.endswith((".git", ".atom", ".", "-", "_"))
    if not _PATH.fullmatch(path) or bad_end or _TWO_SPECIAL.search(path):
        return [
            "must not start or end with a special character and must not contain consecutive special characters.",
            "can contain only letters, digits, '_', '-' and '.'. "
            "Cannot start with '-', end in '.git' or end in '.atom'",
        ]
    return []


def ci_path_problems(path: str | None) -> list[str]:
    """A path inside the repository (`a/b.yml`), one of another project (`x.yml@group/project`), or a URL."""
    if path and (path.startswith("/") or ".." in path):
        return ["can't include leading slash or directory traversal."]
    return []
