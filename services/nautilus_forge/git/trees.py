"""Trees and blobs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from posixpath import basename

from nautilus_forge.errors import GitError
from nautilus_forge.git.command import Git


@dataclass(frozen=True)
class TreeEntry:
    """`kind`: tree, blob or commit (a submodule). `path` is from the root of the tree. `size_bytes`: of blobs."""

    mode: str
    kind: str
    sha: str
    path: str
    size_bytes: int | None = None

    @property
    def name(self) -> str:
        return basename(self.path)

    @property
    def is_executable(self) -> bool:
        return self.mode == "100755"


def is_inside(path: str) -> bool:
    """May git be asked for the path at all? It stays in its tree and has no empty step."""
    steps = path.strip("/").split("/")
    return "\0" not in path and not any(step in ("", ".", "..") for step in steps)


async def list_tree(
    git: Git, commit: str, path: str = "", *, recursive: bool = False
) -> list[TreeEntry] | None:
    """The entries below `path`, folders first; None where `path` is no folder of the commit."""
    folder = path.strip("/")
    result = await git.run("ls-tree", "-z", *(("-r", "-t") if recursive else ()), f"{commit}:{folder}")
    if result.returncode != 0:
        return None
    prefix = f"{folder}/" if folder else ""
    entries = [_entry(record, prefix) for record in result.stdout.split(b"\0") if record]
    return sorted(entries, key=lambda entry: ("tree", "blob", "commit").index(entry.kind))


def _entry(record: bytes, prefix: str = "") -> TreeEntry:
    head, _, path = record.partition(b"\t")
    mode, kind, sha, *size = head.decode("ascii").split()
    size_bytes = int(size[0]) if size and size[0] != "-" else None
    return TreeEntry(mode, kind, sha, prefix + path.decode("utf-8", "surrogateescape"), size_bytes)


async def all_paths(git: Git, commit: str) -> frozenset[str]:
    """Paths of all files of a commit."""
    output = await git.output("ls-tree", "-r", "-z", "--name-only", commit)
    return frozenset(path.decode("utf-8", "surrogateescape") for path in output.split(b"\0") if path)


async def find_entry(git: Git, commit: str, path: str) -> TreeEntry | None:
    """The file, folder or submodule at exactly this path, with its size; None where there is nothing."""
    if not path or path.startswith("/") or not is_inside(path):
        return None
    output = await git.output("--literal-pathspecs", "ls-tree", "-z", "-l", commit, "--", path.rstrip("/"))
    entries = [_entry(record) for record in output.split(b"\0") if record]
    return next((entry for entry in entries if entry.path == path.rstrip("/")), None)


async def read_blob(git: Git, sha: str) -> bytes:
    """The whole blob. Raises `GitError`."""
    return await git.output("cat-file", "blob", sha)


async def read_file(git: Git, commit: str, path: str, limit_bytes: int | None = None) -> bytes | None:
    """A file's bytes; None where the commit has no such file.

    Raises `GitError` for one longer than `limit_bytes`.
    """
    entry = await find_entry(git, commit, path)
    if entry is None or entry.kind != "blob":
        return None
    if limit_bytes is not None and (entry.size_bytes or 0) > limit_bytes:
        raise GitError("cat-file", stderr=f"{path} is longer than {limit_bytes} bytes")
    return await read_blob(git, entry.sha)


async def blob_size(git: Git, sha: str) -> int:
    return int(await git.text("cat-file", "-s", sha))


async def last_commit_for_path(git: Git, commit: str, path: str) -> str:
    """The newest commit that touched the path; `commit` itself where history says none."""
    found = await git.text("--literal-pathspecs", "log", "-1", "--format=%H", commit, "--", path)
    return found or commit


def content_sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
