"""A job's work tree and its own `.git`, made in a folder that no job has ever written.

The history of a small repository is copied out of the mirror file by file, that of a large one comes through
git's own transport. Either way the job gets the refs of its refspecs and the depth that it asked for, shares no
file with the mirror, and its `.git/config` names the repository without credentials.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from nautilus_runner.errors import GitError
from nautilus_runner.payload import GitInfo
from nautilus_runner.sources import copying, git
from nautilus_runner.sources.mirror import Mirrors

_ALL_REFS = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
# in the job's repository git may ask for the job's own token, from the job's environment
_HELPER = (
    '!f(){ if [ "$1" = get ]; then echo "username=gitlab-ci-token"; echo "password=${CI_JOB_TOKEN}"; fi; }; f'
)


def remotes_of(info: GitInfo, server_url: str, clone_url: str) -> list[git.Remote]:
    """The addresses to fetch from: `clone_url` alone when set, else the way this machine reaches the server,
    then the address that the server gives."""
    if clone_url:
        return [git.remote_of(info.repo_url, clone_url)]
    given = git.remote_of(info.repo_url)
    ours = git.remote_of(info.repo_url, server_url)
    return [ours] if ours.url == given.url else [ours, given]


async def check_out(
    mirrors: Mirrors,
    info: GitInfo,
    target: Path,
    *,
    server_url: str,
    clone_url: str,
    is_checked_out: bool = True,
) -> None:
    """Make `target` (an empty folder) the job's project folder.

    `is_checked_out` False leaves the work tree empty (GIT_CHECKOUT). Raises GitError.
    """
    remotes = remotes_of(info, server_url, clone_url)
    refspecs = info.refspecs or _ALL_REFS
    mirror = mirrors.of(remotes[0], info.repo_object_format)
    public = git.remote_of(info.repo_url, clone_url)
    async with mirror.hold(remotes, info.sha, refspecs, info.depth) as held:
        names = [_target(refspec) for refspec in refspecs]
        is_copied = await asyncio.to_thread(copying.copy_repository, held, target, names, info)
        if not is_copied:
            await _fetch_locally(held.path, target, names, info)
    _write_config(target / ".git" / "config", public)
    if is_checked_out:
        argv = ["git", "checkout", "--force", "--quiet", "--detach", info.sha]
        await git.run(argv, cwd=target, env=git.environment(target))


async def _fetch_locally(source: Path, target: Path, names: Sequence[str], info: GitInfo) -> None:
    argv = ["git", "init", "--quiet", "--template=", f"--object-format={info.repo_object_format}", "."]
    await git.run(argv, cwd=target, env=git.environment(target))
    await git.run(
        git.fetch_argv(f"file://{source}", [f"+{name}:{name}" for name in names], depth=info.depth),
        cwd=target,
        env=git.environment(target, extra=[("uploadpack.allowAnySHA1InWant", "true")]),
    )


async def tracked_files(target: Path) -> bytes:
    """The names of the files that git tracks, each ended by NUL: asked before any job could write `target`."""
    return await git.run(["git", "ls-files", "-z"], cwd=target, env=git.environment(target))


def _target(refspec: str) -> str:
    """`b` of `+a:b`: what the mirror has it as, and the job's repository too."""
    target = refspec.rpartition(":")[2]
    if not target.startswith("refs/") or ".." in target:
        raise GitError(f"a refspec without a target under refs/: {refspec}")
    return target


def _write_config(path: Path, public: git.Remote) -> None:
    lines: Sequence[str] = (
        '[remote "origin"]',
        f"\turl = {_quoted(public.url)}",
        "\tfetch = +refs/heads/*:refs/remotes/origin/*",
        "[fetch]",
        "\trecurseSubmodules = false",
        "[gc]",
        "\tautoDetach = false",
        f'[credential "{_escaped(public.origin)}"]',
        f"\thelper = {_quoted(_HELPER)}",
    )
    with path.open("a", encoding="utf-8") as config:
        config.write("\n".join(lines) + "\n")


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    if "\n" in text or "\0" in text:
        raise GitError("the repository's address holds a line break")
    return text.replace("\\", "\\\\").replace('"', '\\"')
