"""git as a program: argument lists and environments by pure functions, and one way to run it.

Nothing of the machine's or a user's git configuration is read, no hook, filter, pager, prompt or maintenance
runs, and credentials travel in the environment of the one process that needs them: never in argv, never on disk.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from nautilus_runner.errors import GitError, SourceRefused
from nautilus_runner.sources.ssh import SshAccess, ssh_address
from nautilus_runner.transport import USER_AGENT

_QUIET = (
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    ("credential.helper", ""),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("submodule.recurse", "false"),
    ("advice.detachedHead", "false"),
    ("init.defaultBranch", "none"),
    ("protocol.allow", "never"),
    ("protocol.http.allow", "always"),
    ("protocol.https.allow", "always"),
    ("protocol.file.allow", "always"),
    ("safe.directory", "*"),
    ("http.userAgent", USER_AGENT),
)
_WORDS_OF_COMFORT = ("Please make sure you have the correct access rights", "and the repository exists.")
_SYSTEM_CERTIFICATES = "/etc/ssl/certs"


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a repository is fetched from. `url` carries no credentials; `authorization` is a whole header value.

    `ssh`: what a fetch by SSH goes with. `resolve`: host, port and addresses, the only ones to connect to.
    `ca_file`: certificates to trust beside the system's.
    """

    url: str
    authorization: str = ""
    ssh: SshAccess | None = None
    resolve: str = ""
    ca_file: str = ""

    @property
    def origin(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def scheme(self) -> str:
        return urlsplit(self.url).scheme

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    def pinned_to(self, resolve: str) -> Remote:
        return replace(self, resolve=resolve)

    def checked(self) -> None:
        """Raises SourceRefused where a fetch by SSH lacks its key, its known hosts, or an address to go to."""
        if self.ssh is not None:
            address = ssh_address(self.url)
            if address is None:
                raise SourceRefused(f"{self.url} is not an address that git can reach by SSH")
            self.ssh.check(address)

    def explained(self, error: GitError) -> GitError:
        address = ssh_address(self.url) if self.ssh is not None else None
        if self.ssh is None or address is None:
            return error
        said = str(error)
        found = self.ssh.explained(said, address)
        return error if found == said else SourceRefused(found)


def remote_of(repo_url: str, base_url: str = "") -> Remote:
    """Take a `repo_url` with its credentials apart; `base_url` replaces its scheme, host and port.

    Raises GitError for anything that is not http or https.
    """
    parts = urlsplit(repo_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise GitError("the repository's address is neither http nor https")
    authorization = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    scheme, host = parts.scheme, parts.netloc.rpartition("@")[2]
    if base_url:
        base = urlsplit(base_url)
        scheme, host = base.scheme, base.netloc.rpartition("@")[2]
    return Remote(urlunsplit((scheme, host, parts.path, "", "")), authorization)


def environment(
    home: Path, remote: Remote | None = None, extra: Sequence[tuple[str, str]] = ()
) -> dict[str, str]:
    """The whole environment of a git process."""
    pairs = [*_QUIET, *extra]
    if remote is not None and remote.authorization:
        pairs.append((f"http.{remote.origin}/.extraHeader", f"Authorization: {remote.authorization}"))
    if remote is not None and remote.resolve:
        pairs += [("http.curloptResolve", remote.resolve), ("http.followRedirects", "false")]
    if remote is not None and remote.ca_file:
        pairs += [("http.sslCAInfo", remote.ca_file), ("http.sslCAPath", _SYSTEM_CERTIFICATES)]
    env = {
        "PATH": os.defpath + ":/usr/local/bin",
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_SSH_COMMAND": "/bin/false",
        "GIT_SSH_VARIANT": "ssh",
    }
    if remote is not None and remote.ssh is not None:
        pairs.append(("protocol.ssh.allow", "always"))
        env["GIT_SSH_COMMAND"] = remote.ssh.command()
    env["GIT_CONFIG_COUNT"] = str(len(pairs))
    for index, (key, value) in enumerate(pairs):
        env[f"GIT_CONFIG_KEY_{index}"] = key
        env[f"GIT_CONFIG_VALUE_{index}"] = value
    return env


async def version() -> tuple[int, ...]:
    """Of the git on this machine, as (2, 39). Raises GitError."""
    said = (await run(["git", "--version"], cwd=Path("/"), env=environment(Path("/")))).decode(
        errors="replace"
    )
    found = re.search(r"(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def fetch_argv(url: str, refspecs: Sequence[str], *, depth: int = 0, unshallow: bool = False) -> list[str]:
    argv = [
        "git",
        "fetch",
        "--quiet",
        "--no-tags",
        "--force",
        "--prune",
        "--no-write-fetch-head",
        "--update-head-ok",
    ]
    if unshallow:
        argv.append("--unshallow")
    elif depth > 0:
        argv.append(f"--depth={depth}")
    return [*argv, "--", url, *refspecs]


async def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    timeout_s: float = 3600.0,
    may_find_nothing: bool = False,
) -> bytes:
    """Run git and return what it printed. Raises GitError with the last lines of what it complained of.

    `may_find_nothing`: status 1 without a word is an empty answer, as `git config --get` and `rev-parse -q` give it.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd,
            env=dict(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            process_group=0,
        )
    except FileNotFoundError as error:
        raise GitError("git is not installed on this machine") from error
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate()
    except TimeoutError as error:
        raise GitError(f"{argv[1]} took longer than {timeout_s:.0f} s") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.shield(process.wait())
    if process.returncode == 1 and may_find_nothing and not err.strip():
        return b""
    if process.returncode != 0:
        lines = err.decode(errors="replace").splitlines()
        said = [line for line in lines if line.strip() and not line.startswith(_WORDS_OF_COMFORT)]
        raise GitError(f"git {argv[1]}: " + ("; ".join(said[-3:]) or f"ended with {process.returncode}"))
    return out
