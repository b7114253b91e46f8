"""Path patterns of artifacts and caches, as `bmatcuk/doublestar` reads them.

`*` and `?` stay within a name, `**` spans folders, `[…]` is a class, `{a,b}` an alternative; names that begin
with a dot are matched like any other. Source: gitlab-runner 19.x `commands/helpers/file_archiver.go`.
"""

from __future__ import annotations

import posixpath
import re

from nautilus_runner.errors import PathError

_MAGIC = frozenset("*?[{\\")


def relative(pattern: str, root: str) -> str:
    """A pattern below `root` ("." is the root itself): absolute ones inside it are made relative.

    Raises PathError for one that leads outside. Never ends in a slash.
    """
    base, glob = _split(pattern)
    whole = posixpath.normpath(posixpath.join(root, base))
    relative_base = posixpath.relpath(whole, root)
    if relative_base == ".." or relative_base.startswith("../"):
        raise PathError(f"artifact path is not a subpath of project directory: {pattern}")
    joined = posixpath.normpath(posixpath.join(relative_base, glob)) if glob else relative_base
    if joined == ".." or joined.startswith("../"):
        raise PathError(f"artifact path is not a subpath of project directory: {pattern}")
    return joined


def static_base(pattern: str) -> str:
    """The folder (or file) that holds everything the pattern can match; "" for the root."""
    base, glob = _split(pattern)
    return "" if base in (".", "") else base if not glob else base.rstrip("/")


def compiled(pattern: str) -> re.Pattern[str]:
    """A regular expression for whole relative paths. Raises PathError for a malformed pattern."""
    if pattern == ".":
        return re.compile(r".*", re.DOTALL)
    try:
        return re.compile(_translated(pattern) + r"\Z", re.DOTALL)
    except re.error as error:
        raise PathError(f"{pattern}: not a path pattern ({error})") from error


def _split(pattern: str) -> tuple[str, str]:
    """What comes before the first part with a wildcard, and the rest."""
    parts = pattern.split("/")
    for index, part in enumerate(parts):
        if _MAGIC & set(part):
            return "/".join(parts[:index]) or ("/" if pattern.startswith("/") else ""), "/".join(
                parts[index:]
            )
    return pattern, ""


def _translated(pattern: str) -> str:
    out: list[str] = []
    at = 0
    depth = 0
    while at < len(pattern):
        char = pattern[at]
        if pattern.startswith("**", at) and _stands_alone(pattern, at):
            at, piece = _double_star(pattern, at)
        elif char == "*":
            while pattern.startswith("*", at + 1):
                at += 1
            piece = "[^/]*"
        elif char == "?":
            piece = "[^/]"
        elif char == "[":
            at, piece = _class(pattern, at)
        elif char == "{":
            depth, piece = depth + 1, "(?:"
        elif char == "}" and depth:
            depth, piece = depth - 1, ")"
        elif char == "," and depth:
            piece = "|"
        elif char == "\\" and at + 1 < len(pattern):
            at += 1
            piece = re.escape(pattern[at])
        else:
            piece = re.escape(char)
        out.append(piece)
        at += 1
    if depth:
        raise PathError(f"{pattern}: a brace is not closed")
    return "".join(out)


def _stands_alone(pattern: str, at: int) -> bool:
    before = at == 0 or pattern[at - 1] in "/{,"
    after = at + 2 == len(pattern) or pattern[at + 2] in "/},"
    return before and after


def _double_star(pattern: str, at: int) -> tuple[int, str]:
    if pattern.startswith("**/", at):
        return at + 2, "(?:[^/]+/)*"
    return at + 1, ".*"


def _class(pattern: str, at: int) -> tuple[int, str]:
    end = pattern.find("]", at + 2)
    if end < 0:
        raise PathError(f"{pattern}: a bracket is not closed")
    inner = pattern[at + 1 : end]
    is_negated = inner[0] in "!^"
    body = inner[1:] if is_negated else inner
    body = body.replace("\\", "\\\\").replace("[", "\\[").replace("^", "\\^")
    return end, f"[{'^/' if is_negated else ''}{body}]"
