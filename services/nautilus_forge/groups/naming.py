"""Names and paths of groups.

Source: gitlabhq app/models/namespace.rb, app/models/group.rb (validations), lib/gitlab/path_regex.rb,
lib/gitlab/regex.rb (`group_name_regex`, `oci_repository_path_regex`), app/validators/namespace_path_validator.rb.
"""

from __future__ import annotations

import re

from nautilus_forge.namespaces import reserved

DEEPEST = 20
"""So many groups may stand above one."""

_NAME = re.compile(r"[\w\u00a9-\U0001f9ff][\w\u00a9-\U0001f9ff\-–—.() ]*")
_PATH = re.compile(r"(?:[A-Za-z0-9_.][A-Za-z0-9_.-]*)?[A-Za-z0-9_-]")
_WITHOUT_DOUBLES = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")


def name_problems(name: str) -> list[str]:
    if not name.strip():
        return ["can't be blank"]
    if len(name) > 255:
        return ["is too long (maximum is 255 characters)"]
    if _NAME.fullmatch(name):
        return []
    return [
        "can contain only letters, digits, emoji, '_', '.', dash, space, parenthesis. "
        "It must start with letter, digit, emoji or '_'."
    ]


def path_problems(path: str, *, is_top: bool) -> list[str]:
    """What is wrong with one segment; `is_top`: nothing stands above it."""
    if not path:
        return ["can't be blank"]
    if len(path) > 255:
        return ["is too long (maximum is 255 characters)"]
    if not _PATH.fullmatch(path) or path.startswith("-") or path.lower().endswith((".git", ".atom")):
        return [
            "can contain only letters, digits, '_', '-' and '.'. "
            "Cannot start with '-' or end in '.', '.git' or '.atom'."
        ]
    if path.lower() in (reserved.TOP_LEVEL if is_top else reserved.BELOW):
        return [f"{path} is a reserved name"]
    if not _WITHOUT_DOUBLES.fullmatch(path):
        return [
            "must not start or end with a special character and must not contain consecutive special characters."
        ]
    return []
