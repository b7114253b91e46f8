"""A job's work tree and its own `.git`, made in a folder that no job has ever written.

The history of a small repository is copied out of the mirror file by file, that of a large one comes through
git's own transport. Either way the job gets the refs of its refspecs and the depth that it asked for, shares no
file with the mirror, and its `.git/config` names the repository without credentials.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from nautilus_runner.errors import GitError
from nautilus_runner.network.addresses import is_loopback
from nautilus_runner.payload import GitInfo
from nautilus_runner.settings import RunnerSettings
from nautilus_runner.sources import copying, git
from nautilus_runner.sources.mirror import Mirrors
from nautilus_runner.sources.ssh import SshAccess

_ALL_REFS = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
# in the job's repository git may ask for the job's own token, from the job's environment
_HELPER = (
    '!f(){ if [ "$1" = get ]; then echo "username=gitlab-ci-token"; echo "password=${CI_JOB_TOKEN}"; fi; }; f'
)
_NO_SSH = SshAccess()


@dataclass(frozen=True, slots=True)
class Server:
    """How this machine reaches the server's repositories. `clone_url` may be `ssh://git@host:port`."""

    url: str
    clone_url: str = ""
    ca_file: str = ""
    ssh: SshAccess = _NO_SSH
    named_hosts: tuple[str, ...] = ()
    has_containers: bool = False
    """Jobs have a loopback address of their own: ours means nothing there."""

    @classmethod
    def of(cls, settings: RunnerSettings) -> Server:
        return cls(
            settings.url,
            settings.clone_url,
            settings.tls_ca_file,
            SshAccess(settings.ssh_key_file, settings.ssh_known_hosts_file),
            settings.source_hosts,
            settings.executor == "docker",
        )

    def remotes(self, repo_url: str) -> list[git.Remote]:
        """The addresses to fetch from: `clone_url` alone when set, else the way this machine reaches the server,
        then the address that the server gives."""
        if self.clone_url:
            return [self._remote(repo_url, self.clone_url)]
        given, ours = self._remote(repo_url), self._remote(repo_url, self.url)
        return [ours] if ours.url == given.url else [ours, given]

    def public(self, repo_url: str) -> git.Remote:
        """What the job's own `.git/config` names."""
        is_http = self.clone_url.startswith("http")
        is_unreachable = self.has_containers and is_loopback(urlsplit(self.clone_url).hostname or "")
        return git.remote_of(repo_url, self.clone_url if is_http and not is_unreachable else "")

    def _remote(self, repo_url: str, base_url: str = "") -> git.Remote:
        if base_url.startswith("ssh://"):
            path = git.remote_of(repo_url).path
            return git.Remote(base_url.rstrip("/") + path, ssh=self.ssh)
        return replace(git.remote_of(repo_url, base_url), ca_file=self.ca_file)


async def check_out(
    mirrors: Mirrors, info: GitInfo, target: Path, server: Server, *, is_checked_out: bool = True
) -> None:
    """Make `target` (an empty folder) the job's project folder.

    `is_checked_out` False leaves the work tree empty (GIT_CHECKOUT). Raises GitError.
    """
    remotes, public = server.remotes(info.repo_url), server.public(info.repo_url)
    await make_repository(mirrors, info, target, remotes, public)
    _write_config(target / ".git" / "config", public, is_ours=True)
    if is_checked_out:
        await check_out_commit(target, info.sha)


async def make_repository(
    mirrors: Mirrors,
    info: GitInfo,
    target: Path,
    remotes: Sequence[git.Remote],
    public: git.Remote,
    *,
    must_ask: bool = False,
) -> None:
    """`target/.git` from the mirror of `remotes`, without a work tree. `must_ask`: see Mirror.hold. Raises GitError."""
    refspecs = info.refspecs or _ALL_REFS
    mirror = mirrors.of(remotes[0], info.repo_object_format)
    async with mirror.hold(remotes, info.sha, refspecs, info.depth, must_ask=must_ask) as held:
        names = [_target(refspec) for refspec in refspecs]
        is_copied = await asyncio.to_thread(copying.copy_repository, held, target, names, info)
        if not is_copied:
            await _fetch_locally(held.path, target, names, info)


async def check_out_commit(target: Path, sha: str) -> None:
    argv = ["git", "checkout", "--force", "--quiet", "--detach", sha]
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


def _write_config(path: Path, public: git.Remote, *, is_ours: bool) -> None:
    lines: list[str] = [
        # the job gets copies that are its own: what tells a change is size and time
        *("[core]", "\tcheckStat = minimal", "\ttrustctime = false"),
        '[remote "origin"]',
        f"\turl = {quoted(public.url)}",
        "\tfetch = +refs/heads/*:refs/remotes/origin/*",
        "[fetch]",
        "\trecurseSubmodules = false",
        "[gc]",
        "\tautoDetach = false",
    ]
    if is_ours:
        lines += [f'[credential "{_escaped(public.origin)}"]', f"\thelper = {quoted(_HELPER)}"]
    append_config(path, lines)


def write_submodule_config(git_dir: Path, public: git.Remote, worktree: str, *, is_ours: bool) -> None:
    """As `_write_config`, of a repository whose work tree is elsewhere."""
    _write_config(git_dir / "config", public, is_ours=is_ours)
    append_config(git_dir / "config", ["[core]", f"\tworktree = {quoted(worktree)}"])


def append_config(path: Path, lines: Sequence[str]) -> None:
    with path.open("a", encoding="utf-8", errors="surrogateescape") as config:
        config.write("\n".join(lines) + "\n")


def quoted(text: str) -> str:
    """A value (or a section's name, with its quotes) of a git configuration file."""
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    if "\n" in text or "\0" in text:
        raise GitError("a name or address of a repository holds a line break")
    return text.replace("\\", "\\\\").replace('"', '\\"')
