"""Submodules of a job's checkout, put together by the runner in a folder that no job has ever written.

`git submodule` itself never runs: each one is a checkout of its own from a mirror, after the server has said that the
job's token may read it. Their repositories lie in `.git/modules/<name>`, as git has them.
Source: gitlab-runner 16.11 `shells/abstract.go` (writeSubmoduleUpdateCmd); git 2.39 `submodule--helper.c`.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nautilus_runner.errors import GitError, SourceRefused
from nautilus_runner.payload import GitInfo
from nautilus_runner.sources import checkout, git
from nautilus_runner.sources.gitmodules import Submodule, Whereabouts, absolute, each_parent, submodules_of
from nautilus_runner.sources.mirror import Mirrors
from nautilus_runner.sources.options import SubmoduleOptions

MAX_DEPTH = 16
MAX_COUNT = 500
# a server's words for "not for you": the project's own error, as nothing of ours would mend it
_FORBIDDEN = (
    *("not found", "not our ref", "Authentication failed", "could not read Username"),
    *("error: 403", "error: 401"),
)
_WHOLE = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")


@dataclass(frozen=True, slots=True)
class Made:
    """A submodule that is in place. `path` is below the project folder; `is_ours`: it came from the job's server."""

    path: str
    folder: Path
    sha: str
    remotes: tuple[git.Remote, ...]
    public: git.Remote
    is_ours: bool


@dataclass(slots=True)
class _Making:
    mirrors: Mirrors
    whereabouts: Whereabouts
    options: SubmoduleOptions
    object_format: str
    made: list[Made] = field(default_factory=list)


async def make_submodules(
    mirrors: Mirrors, whereabouts: Whereabouts, options: SubmoduleOptions, info: GitInfo, target: Path
) -> list[Made]:
    """All that `options` want of the checkout in `target`. Raises SourceRefused, GitError."""
    making = _Making(mirrors, whereabouts, options, info.repo_object_format)
    base = whereabouts.server.public(info.repo_url).url
    await _descend(making, target, target / ".git", base, "", options.paths, 1)
    return making.made


async def _descend(
    making: _Making, tree: Path, git_dir: Path, base: str, prefix: str, paths: Sequence[str], depth: int
) -> None:
    for submodule in await submodules_of(tree, paths):
        if depth > MAX_DEPTH or len(making.made) >= MAX_COUNT:
            raise SourceRefused(
                f"submodules nest deeper than {MAX_DEPTH}, or are more than {MAX_COUNT}: {prefix}{submodule.path}"
            )
        url = absolute(submodule.url, base)
        try:
            made = await _make(making, tree, git_dir, submodule, url, prefix)
        except GitError as error:
            kind = SourceRefused if any(words in str(error) for words in _FORBIDDEN) else type(error)
            raise kind(f"submodule {prefix}{submodule.path}: {error}") from error
        making.made.append(made)
        if making.options.is_recursive:
            inner = git_dir / "modules" / submodule.name
            await _descend(making, made.folder, inner, url, f"{made.path}/", (), depth + 1)


async def _make(
    making: _Making, tree: Path, git_dir: Path, submodule: Submodule, url: str, prefix: str
) -> Made:
    remotes, public, is_ours = await making.whereabouts.remotes(url)
    folder = await asyncio.to_thread(_empty_folder, tree, submodule.path)
    sha, info = submodule.sha, _info(making, submodule)
    await checkout.make_repository(making.mirrors, info, folder, remotes, public, must_ask=True)
    if making.options.follows_branch:
        sha = await _tip(folder, submodule.branch) or sha
    inner = git_dir / "modules" / submodule.name
    await asyncio.to_thread(_absorb, folder, inner)
    checkout.write_submodule_config(inner, public, os.path.relpath(folder, inner), is_ours=is_ours)
    await checkout.check_out_commit(folder, sha)
    section = f"[submodule {checkout.quoted(submodule.name)}]"
    checkout.append_config(
        git_dir / "config", [section, "\tactive = true", f"\turl = {checkout.quoted(public.url)}"]
    )
    return Made(f"{prefix}{submodule.path}", folder, sha, tuple(remotes), public, is_ours)


def _info(making: _Making, submodule: Submodule) -> GitInfo:
    """What to fetch: the commit alone where the history is to be short, else all branches and tags with it."""
    options = making.options
    depth = options.depth
    if submodule.is_shallow and options.minds_shallow and not options.follows_branch:
        depth = depth or 1
    pinned = f"+{submodule.sha}:refs/nautilus/{submodule.sha}"
    is_short = depth > 0 and not options.follows_branch
    return GitInfo(
        sha=submodule.sha,
        refspecs=(pinned,) if is_short else (*_WHOLE, pinned),
        depth=depth if is_short else 0,
        repo_object_format=making.object_format,
    )


async def _tip(folder: Path, branch: str) -> str:
    """The newest commit of the branch that `--remote` follows ("" where `.gitmodules` names none that is there)."""
    for name in (branch,) if branch else ("main", "master"):
        argv = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"refs/remotes/origin/{name}"]
        found = await git.run(argv, cwd=folder, env=git.environment(folder), may_find_nothing=True)
        if found:
            return found.decode("ascii").strip()
    if branch:
        raise SourceRefused(f"has no branch {branch!r}, which .gitmodules follows")
    return ""


def _empty_folder(tree: Path, path: str) -> Path:
    """The folder that git made for a gitlink, proven to be one of `tree` and empty. Raises SourceRefused."""
    for part in (*each_parent(path), path):
        folder = tree / part
        try:
            info = folder.lstat()
        except FileNotFoundError:
            folder.mkdir(mode=0o755)
            continue
        if not stat.S_ISDIR(info.st_mode):
            raise SourceRefused(f"{part} is not a folder")
    folder = tree / path
    if any(folder.iterdir()):
        raise SourceRefused(f"{path} is not empty")
    return folder


def _absorb(folder: Path, inner: Path) -> None:
    """Move a repository out of its work tree, and leave a word of where it is."""
    inner.parent.mkdir(parents=True, exist_ok=True)
    (folder / ".git").rename(inner)
    (folder / ".git").write_text(f"gitdir: {os.path.relpath(inner, folder)}\n")


def described(options: SubmoduleOptions) -> str:
    """The line of the log before they are made, in gitlab-runner's words."""
    how = " recursively" if options.is_recursive else ""
    depth = f" with git depth set to {options.depth}" if options.depth else ""
    return f"Updating/initializing submodules{how}{depth}..."
