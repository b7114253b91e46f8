"""What a commit says of its submodules, taken with care: `.gitmodules` is written by whoever can push.

Addresses become remotes only of the kinds http, https and ssh; the job's token goes to the server's own addresses
alone. Names and paths stay inside. Source: git 2.39 `submodule-config.c`, `submodule--helper.c` (relative_url).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from nautilus_runner.errors import GitError, SourceRefused
from nautilus_runner.sources import git, reach
from nautilus_runner.sources.checkout import Server
from nautilus_runner.sources.ssh import SshAddress, ssh_address

GITMODULES = ".gitmodules"
_MAX_BYTES = 1 << 20
_PORTS = {"http": 80, "https": 443}
_KEYS = r"^submodule\..*\.(path|url|branch|shallow|update)$"


@dataclass(frozen=True, slots=True)
class Submodule:
    """One declared submodule that the commit holds, at `sha`."""

    name: str
    path: str
    url: str
    sha: str
    branch: str = ""
    is_shallow: bool = False


async def submodules_of(target: Path, pathspecs: Sequence[str]) -> list[Submodule]:
    """Those of the commit that is checked out in `target` (a folder of ours); `pathspecs` are git's, none: all.

    One that is not declared, or whose `update` is `none`, is left out as git does. Raises SourceRefused, GitError.
    """
    declaration = target / GITMODULES
    if declaration.is_symlink() or not declaration.is_file():
        return []
    if declaration.stat().st_size > _MAX_BYTES:
        raise SourceRefused(f"{GITMODULES} is larger than {_MAX_BYTES >> 20} MiB")
    argv = ["git", "config", "-z", "--file", GITMODULES, "--no-includes", "--get-regexp", _KEYS]
    try:
        listing = await git.run(argv, cwd=target, env=git.environment(target), may_find_nothing=True)
    except GitError as error:
        raise SourceRefused(f"{GITMODULES} can't be read: {error}") from error
    declared = _declared(listing)
    if not declared:
        return []
    argv = ["git", "ls-files", "-z", "--stage", "--", *pathspecs]
    links = _links(await git.run(argv, cwd=target, env=git.environment(target)))
    found = [_submodule(name, fields, links) for name, fields in declared.items()]
    chosen = [submodule for submodule in found if submodule is not None]
    _refuse_collisions(chosen)
    return chosen


def _declared(listing: bytes) -> dict[str, dict[str, str]]:
    """The fields of each name; the last of a key wins."""
    declared: dict[str, dict[str, str]] = {}
    for entry in listing.decode(errors="surrogateescape").split("\0"):
        key, _, value = entry.partition("\n")
        section, _, field = key.rpartition(".")
        if section.startswith("submodule."):
            declared.setdefault(section.removeprefix("submodule."), {})[field] = value
    return declared


def _links(listing: bytes) -> dict[str, str]:
    """Path and commit of each gitlink in `git ls-files --stage -z`."""
    found = {}
    for entry in listing.decode(errors="surrogateescape").split("\0"):
        head, _, path = entry.partition("\t")
        if head.startswith("160000 "):
            found[path] = head.split()[1]
    return found


def _submodule(name: str, fields: Mapping[str, str], links: Mapping[str, str]) -> Submodule | None:
    path = fields.get("path", "").rstrip("/")
    if path not in links or fields.get("update") == "none":
        return None
    url = fields.get("url", "")
    if not url:
        raise SourceRefused(f"{GITMODULES}: submodule {name!r} has no url")
    for what, text in (("name", name), ("path", path)):
        if not is_plain(text):
            raise SourceRefused(f"{GITMODULES}: the {what} {text!r} of a submodule leads out of its folder")
    return Submodule(
        name, path, url, links[path], fields.get("branch", ""), fields.get("shallow", "").lower() == "true"
    )


def is_plain(text: str) -> bool:
    """Whether a name or path goes down only, and never into a `.git`. Pure."""
    if not text or text.startswith(("/", "-")) or any(c in text for c in "\0\n\r\\"):
        return False
    parts = text.split("/")
    return all(p not in ("", ".", "..") and p.lower().rstrip(". ") != ".git" for p in parts)


def _refuse_collisions(submodules: Sequence[Submodule]) -> None:
    """One repository's folder must never lie inside another's. Raises SourceRefused."""
    for texts in ([s.name for s in submodules], [s.path for s in submodules]):
        ordered = sorted(f"{text}/".lower() for text in texts)
        for first, second in itertools.pairwise(ordered):
            if second.startswith(first):
                raise SourceRefused(f"{GITMODULES}: {first[:-1]} and {second[:-1]} lie in each other")


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where submodules may come from: the server, the job's own `repo_url` (with its token), and other hosts.

    `ssh_hosts` are names by which the server is reached over SSH, for GIT_SUBMODULE_FORCE_HTTPS.
    """

    server: Server
    repo_url: str
    forces_https: bool = False
    ssh_hosts: tuple[str, ...] = ()

    async def remotes(self, url: str) -> tuple[list[git.Remote], git.Remote, bool]:
        """Ways to fetch from an absolute address, what the job's configuration names, and whether the server is
        ours. Raises SourceRefused."""
        address = ssh_address(url)
        if address is not None and self._is_forced(address):
            base = urlsplit(git.remote_of(self.repo_url).origin)
            url, address = f"{base.scheme}://{base.netloc}/{address.path}", None
        if address is not None:
            remote = git.Remote(address.url, ssh=self.server.ssh)
            remote.checked()
            return [remote], git.Remote(url), False
        if not url.startswith(("http://", "https://")):
            raise SourceRefused(
                f"the submodule address {url[:200]!r} is not fetched; use http, https, ssh or a relative one"
            )
        if self._is_own(url):
            given = _with_token(url, self.repo_url)
            return self.server.remotes(given), self.server.public(given), True
        remote = await reach.pinned(git.remote_of(url), self.server.named_hosts)
        return [remote], git.remote_of(url), False

    def _is_own(self, url: str) -> bool:
        known = (self.repo_url, self.server.url, self.server.clone_url)
        return _origin(url) in {_origin(one) for one in known if one.startswith("http")}

    def _is_forced(self, address: SshAddress) -> bool:
        return self.forces_https and address.host.lower() in self.ssh_hosts


def absolute(url: str, base: str) -> str:
    """A submodule's address where that of its superproject is `base` (absolute, without credentials). Pure.

    Raises SourceRefused where `..` leads above the server.
    """
    if not url.startswith(("./", "../")):
        return url
    head, rest = base.rstrip("/"), url
    least = _root(head)
    while rest.startswith(("./", "../")):
        if rest.startswith("../"):
            rest = rest[3:]
            cut = max(head.rfind("/"), head.rfind(":") if "://" not in head else -1)
            if cut < least:
                raise SourceRefused(f"the submodule address {url!r} leads above {base}")
            head, colon = head[:cut], head[cut] == ":"
            if colon:
                return f"{head}:{rest}"
        else:
            rest = rest[2:]
    if not rest or any(part in ("", ".", "..") for part in rest.rstrip("/").split("/")):
        raise SourceRefused(f"the submodule address {url!r} is not a path")
    return f"{head}/{rest.rstrip('/')}"


def _root(base: str) -> int:
    """Where the path of an address begins: nothing before that is ever cut off."""
    found = re.match(r"\w+://[^/]+", base)
    return found.end() if found else 0


def _with_token(url: str, repo_url: str) -> str:
    """The address with the credentials of the job's own repository, whatever it brought itself."""
    parts, own = urlsplit(url), urlsplit(repo_url)
    credentials = own.netloc.rpartition("@")[0]
    host = parts.netloc.rpartition("@")[2]
    path = parts.path.rstrip("/")
    path = path if path.endswith(".git") else f"{path}.git"
    return parts._replace(netloc=f"{credentials}@{host}" if credentials else host, path=path).geturl()


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    try:
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise SourceRefused(f"the submodule address {url[:200]!r} has no valid port") from error
    return parts.scheme, (parts.hostname or "").lower(), port


def each_parent(path: str) -> Iterator[str]:
    """`a`, `a/b` of `a/b/c`."""
    parts = path.split("/")
    for depth in range(1, len(parts)):
        yield "/".join(parts[:depth])
