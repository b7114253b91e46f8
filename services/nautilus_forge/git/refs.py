"""Branches and tags: listing them, and moving them with compare-and-swap."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from nautilus_forge.errors import GitError
from nautilus_forge.git.command import Git
from nautilus_forge.git.commits import Commit, commit_of
from nautilus_forge.git.writing import Person

ZERO_SHA = "0" * 40
_COMMIT_FIELDS = (
    "objectname",
    "parent",
    "authorname",
    "authoremail:trim",
    "authordate:iso-strict",
    "committername",
    "committeremail:trim",
    "committerdate:iso-strict",
    "contents:trailers:only,unfold",
    "contents",
)
_BAD_NAME = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(/|$)|^[./-]|[/.]$|^@$|^HEAD$|^$")


class RefMoved(Exception):
    """The ref was not where it should have been: somebody else moved it first."""


@dataclass(frozen=True)
class Ref:
    """`name` is short ("main"). `target`: the ref's own object (an annotated tag's own), `commit`: what it means.

    `message`, `tagged_at`: of annotated tags.
    """

    name: str
    target: str
    commit: Commit
    message: str = ""
    tagged_at: str | None = None


def is_valid_name(name: str) -> bool:
    """Is it a good name for a branch or a tag? Source: git-check-ref-format(1), and no leading dash."""
    return len(name.encode("utf-8", "surrogateescape")) <= 244 and _BAD_NAME.search(name) is None


async def list_branches(git: Git) -> list[Ref]:
    """All branches by name."""
    return await _list(git, "refs/heads/", "refs/heads/")


async def find_branch(git: Git, name: str) -> Ref | None:
    return await _find(git, "refs/heads/", name)


async def list_tags(git: Git) -> list[Ref]:
    """All tags that point to commits, by name."""
    return await _list(git, "refs/tags/", "refs/tags/")


async def find_tag(git: Git, name: str) -> Ref | None:
    return await _find(git, "refs/tags/", name)


async def _find(git: Git, prefix: str, name: str) -> Ref | None:
    if not is_valid_name(name):
        return None
    found = await _list(git, prefix, prefix + name)
    return next((ref for ref in found if ref.name == name), None)


async def _list(git: Git, prefix: str, pattern: str) -> list[Ref]:
    is_tag = prefix == "refs/tags/"
    own = ["refname", "objectname", "objecttype", "*objecttype", "creatordate:iso-strict", "contents"]
    fields = own + list(_COMMIT_FIELDS) + ([f"*{field}" for field in _COMMIT_FIELDS] if is_tag else [])
    form = "%00".join(f"%({field})" for field in fields) + "%00"
    output = await git.output("for-each-ref", f"--format={form}", pattern)
    cells = output.decode("utf-8", "surrogateescape").split("\0")
    width = len(fields)
    rows = [cells[start : start + width] for start in range(0, len(cells) - width, width)]
    return [ref for row in rows if (ref := _ref(row, prefix, len(own))) is not None]


def _ref(row: list[str], prefix: str, own: int) -> Ref | None:
    refname, target, kind, peeled_kind, tagged_at, contents = row[:own]
    is_annotated = kind == "tag"
    if (peeled_kind if is_annotated else kind) != "commit":
        return None
    fields = row[own + len(_COMMIT_FIELDS) :] if is_annotated else row[own : own + len(_COMMIT_FIELDS)]
    return Ref(
        name=refname.lstrip("\n").removeprefix(prefix),
        target=target,
        commit=commit_of(fields),
        message=contents.rstrip("\n") if is_annotated else "",
        tagged_at=tagged_at if is_annotated else None,
    )


async def merged_branches(git: Git, into: str) -> set[str]:
    """Names of the branches whose commits are all reachable from the commit `into`."""
    output = await git.text("for-each-ref", f"--merged={into}", "--format=%(refname)", "refs/heads/")
    return {line.removeprefix("refs/heads/") for line in output.splitlines()}


async def ref_sha(git: Git, full_name: str) -> str:
    """The ref's object, `ZERO_SHA` where there is no such ref."""
    result = await git.run("rev-parse", "--verify", "--quiet", "--end-of-options", full_name)
    return result.stdout.decode("ascii").strip() if result.returncode == 0 else ZERO_SHA


async def move_ref(git: Git, full_name: str, old_sha: str, new_sha: str) -> None:
    """Create (old is `ZERO_SHA`), move or delete (new is `ZERO_SHA`) a ref that stands at `old_sha`.

    Raises `RefMoved` where it stands elsewhere or cannot be made beside another ref, `GitError` otherwise.
    """
    if new_sha == ZERO_SHA:
        command = f"delete {full_name}\0{old_sha}\0"
    elif old_sha == ZERO_SHA:
        command = f"create {full_name}\0{new_sha}\0"
    else:
        command = f"update {full_name}\0{new_sha}\0{old_sha}\0"
    result = await git.run("update-ref", "-z", "--stdin", stdin=command.encode("utf-8", "surrogateescape"))
    if result.returncode == 0:
        return
    if "cannot lock ref" in result.stderr or "reference already exists" in result.stderr:
        raise RefMoved(full_name)
    raise GitError("update-ref", returncode=result.returncode, stderr=result.stderr)


async def is_ancestor(git: Git, old_sha: str, new_sha: str) -> bool:
    """Does `new_sha` contain `old_sha` (is it a fast-forward)?"""
    return (await git.run("merge-base", "--is-ancestor", old_sha, new_sha)).returncode == 0


async def merge_base(git: Git, *shas: str) -> str | None:
    result = await git.run("merge-base", *(("--octopus",) if len(shas) > 2 else ()), *shas)
    return result.stdout.decode("ascii").split()[0] if result.returncode == 0 else None


async def write_tag(git: Git, name: str, commit: str, message: str, tagger: Person) -> str:
    """An annotated tag's object; no ref points to it yet."""
    person = f"{tagger.clean_name} <{tagger.clean_email}> {int(time.time())} +0000"
    text = f"object {commit}\ntype commit\ntag {name}\ntagger {person}\n\n{message.rstrip()}\n"
    return await git.text("mktag", stdin=text.encode("utf-8", "replace"))


async def containing(git: Git, kind: str, sha: str) -> list[str]:
    """Names of the branches (`kind` "branch") or tags ("tag") from which the commit can be reached."""
    prefix = "refs/heads/" if kind == "branch" else "refs/tags/"
    output = await git.text("for-each-ref", f"--contains={sha}", "--format=%(refname)", prefix)
    return [line.removeprefix(prefix) for line in output.splitlines()]
