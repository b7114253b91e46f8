"""Run git: argv built by us, an environment of its own, bounded in time.

Nothing of the user's or the system's git configuration is read, and no untrusted value is ever taken for an
option: callers put such values behind `--end-of-options` or `--`, or send them by stdin.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from nautilus_forge.errors import GitError

_CHUNK_BYTES = 1 << 16
_BEHIND_OTHERS = ("nice", "-n", "19")


def git_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment of a git child process."""
    return {
        "PATH": os.environ.get("PATH") or os.defpath,
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_ATTR_NOSYSTEM": "1",
        **(extra or {}),
    }


@dataclass(frozen=True)
class GitResult:
    returncode: int
    stdout: bytes
    stderr: str


class Git:
    """Git bound to one bare repository; making one starts nothing. `is_background`: with the lowest priority.

    `safe.directory=*` because the appliance may run as another user than the one that owns the data folder.
    """

    def __init__(
        self,
        repository: Path,
        timeout_s: float = 60.0,
        env: Mapping[str, str] | None = None,
        *,
        is_background: bool = False,
    ) -> None:
        self.repository = repository
        self.timeout_s = timeout_s
        self._env = git_environment(env)
        self._is_background = is_background

    def with_env(self, extra: Mapping[str, str]) -> Git:
        """The same repository with more environment (`GIT_INDEX_FILE`, `GIT_OBJECT_DIRECTORY`, …)."""
        return Git(self.repository, self.timeout_s, {**self._env, **extra}, is_background=self._is_background)

    def argv(self, *args: str) -> tuple[str, ...]:
        options = ("-c", "safe.directory=*", "-c", "core.quotePath=false")
        behind_others = _BEHIND_OTHERS if self._is_background else ()
        return (*behind_others, "git", *options, f"--git-dir={self.repository}", *args)

    async def run(self, *args: str, stdin: bytes | None = None) -> GitResult:
        """Run to the end whatever the exit status. Raises `GitError` past `timeout_s`, or without git."""
        process = await self._start(*args, stdin=stdin is not None)
        try:
            async with asyncio.timeout(self.timeout_s):
                stdout, stderr = await process.communicate(stdin)
        except TimeoutError as error:
            raise GitError(args[0], stderr=f"no end after {self.timeout_s} s") from error
        finally:
            await _end(process)
        returncode = process.returncode if process.returncode is not None else -1
        return GitResult(returncode, stdout, stderr.decode("utf-8", "replace"))

    async def output(self, *args: str, stdin: bytes | None = None) -> bytes:
        """Standard output of a command that must succeed. Raises `GitError`."""
        result = await self.run(*args, stdin=stdin)
        if result.returncode != 0:
            raise GitError(args[0], returncode=result.returncode, stderr=result.stderr)
        return result.stdout

    async def text(self, *args: str, stdin: bytes | None = None) -> str:
        """As `output`, decoded (undecodable bytes become U+FFFD) and without the last newline."""
        return (await self.output(*args, stdin=stdin)).decode("utf-8", "replace").removesuffix("\n")

    async def head(self, limit_bytes: int, *args: str) -> bytes:
        """As `output`, but at most about `limit_bytes`: what is longer is cut and git is ended."""
        taken = bytearray()
        async with asyncio.timeout(self.timeout_s), self.stream(*args) as chunks:
            async for chunk in chunks:
                taken += chunk
                if len(taken) >= limit_bytes:
                    break
        return bytes(taken)

    @asynccontextmanager
    async def stream(self, *args: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Standard output in chunks of at most 64 KiB; the process ends with the block.

        The chunks raise `GitError` at their end where git failed.
        """
        process = await self._start(*args, stdin=False)
        try:
            yield self._chunks(process, args[0])
        finally:
            await _end(process)

    async def _chunks(self, process: asyncio.subprocess.Process, what: str) -> AsyncIterator[bytes]:
        assert process.stdout is not None
        assert process.stderr is not None
        while chunk := await process.stdout.read(_CHUNK_BYTES):
            yield chunk
        stderr = await process.stderr.read()
        if await process.wait() != 0:
            raise GitError(what, returncode=process.returncode, stderr=stderr.decode("utf-8", "replace"))

    async def _start(self, *args: str, stdin: bool) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        try:
            return await asyncio.create_subprocess_exec(
                *self.argv(*args),
                stdin=pipe if stdin else asyncio.subprocess.DEVNULL,
                stdout=pipe,
                stderr=pipe,
                cwd="/",
                env=self._env,
            )
        except OSError as error:
            raise GitError(args[0], stderr=str(error)) from error


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
