"""What changed between two trees, file by file, as GitLab's API shows it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from nautilus_forge.git.command import Git
from nautilus_forge.git.revisions import EMPTY_TREE

LONGEST_DIFF_BYTES = 200 << 10
"""A file whose diff is longer is shown without it (`too_large`). Source: GitLab's `diff_max_patch_bytes`."""
_LONGEST_OUTPUT_BYTES = 32 << 20
_MOST_FILES = 3000
_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@")
_SECTION = re.compile(rb"^diff --git ", re.MULTILINE)


@dataclass(frozen=True)
class FileDiff:
    """`diff`: the hunks; `header`: the `---`/`+++` lines before them (for `unidiff`)."""

    old_path: str
    new_path: str
    a_mode: str
    b_mode: str
    status: str
    diff: str
    header: str = ""
    is_too_large: bool = False


async def read_diff(git: Git, base: str | None, head: str) -> list[FileDiff]:
    """The files that differ from `base` (None: the empty tree) to `head`, renames detected."""
    options = ("-r", "-M", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv")
    trees = (base or EMPTY_TREE, head)
    raw = await git.output("diff-tree", *options, "--raw", "-z", *trees)
    changes = list(islice(parse_raw(raw), _MOST_FILES))
    patch = await git.head(_LONGEST_OUTPUT_BYTES, "diff-tree", *options, "--patch", *trees)
    return list(_joined(changes, patch))


async def changed_paths(git: Git, base: str | None, head: str) -> frozenset[str]:
    """Paths that differ, of renamed files both."""
    output = await git.output(
        "diff-tree", "-r", "--no-renames", "--name-only", "-z", base or EMPTY_TREE, head
    )
    return frozenset(path.decode("utf-8", "surrogateescape") for path in output.split(b"\0") if path)


def has_line(diff: str, line: int, kind: str) -> bool:
    """Did the hunks add ("new") a line that has this number now, or take one away ("old") that had it before?"""
    old = new = 0
    for text in diff.split("\n"):
        head = _HUNK.match(text)
        if head is not None:
            old, new = int(head[1]), int(head[2])
        elif text.startswith("+"):
            if kind == "new" and new == line:
                return True
            new += 1
        elif text.startswith("-"):
            if kind == "old" and old == line:
                return True
            old += 1
        elif not text.startswith("\\"):
            old, new = old + 1, new + 1
    return False


def parse_raw(output: bytes) -> Iterator[tuple[str, str, str, str, str]]:
    """(old path, new path, old mode, new mode, status letter) for each record of `--raw -z`."""
    fields = iter(output.split(b"\0"))
    for head in fields:
        if not head:
            continue
        old_mode, new_mode, _, _, status = head.decode("ascii").lstrip(":").split()
        old_path = next(fields).decode("utf-8", "replace")
        new_path = next(fields).decode("utf-8", "replace") if status[0] in "RC" else old_path
        yield old_path, new_path, old_mode, new_mode, status[0]


def _joined(changes: list[tuple[str, str, str, str, str]], patch: bytes) -> Iterator[FileDiff]:
    """Each change with its section of the patch; a change of type has two sections (deleted, added)."""
    starts = [match.start() for match in _SECTION.finditer(patch)]
    sections = [patch[a:b] for a, b in zip(starts, [*starts[1:], len(patch)], strict=False)]
    remaining = iter(sections)
    for old_path, new_path, a_mode, b_mode, status in changes:
        taken = list(islice(remaining, 2 if status == "T" else 1))
        header, diff, too_large = _shown(b"".join(taken), is_missing=not taken)
        yield FileDiff(old_path, new_path, a_mode, b_mode, status, diff, header, too_large)


def _shown(section: bytes, *, is_missing: bool) -> tuple[str, str, bool]:
    """(header, hunks, is too large) of one section."""
    if is_missing or len(section) > LONGEST_DIFF_BYTES:
        return "", "", True
    text = section.decode("utf-8", "replace")
    hunk = re.search(r"^(@@ |Binary files )", text, re.MULTILINE)
    if hunk is None:
        return "", "", False
    names = re.search(r"^--- .*\n\+\+\+ .*\n", text, re.MULTILINE)
    return (names.group(0) if names else ""), text[hunk.start() :], False
