"""What is sent to the daemon for a build: the files of the context as a tar archive, and a name for all of it.

The folder is one that no job has ever written, but its content is a repository's: links are packed as links.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from nautilus_runner.errors import ImageBuildFailed

_IGNORE = ".dockerignore"
_CHUNK = 1 << 20


def pack(root: Path, dockerfile: str, out: IO[bytes], limit_bytes: int) -> tuple[str, str]:
    """Write the archive; returns the Dockerfile's name in it and a digest of the files (not of the Dockerfile).

    `.git` is left out, and what `.dockerignore` names. Raises ImageBuildFailed where it is too much.
    """
    is_ignored = _ignoring(root)
    digest = hashlib.sha256()
    left = limit_bytes
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in _walk(root, is_ignored):
            path = root / name
            info = path.lstat()
            kind = "l" if stat.S_ISLNK(info.st_mode) else "d" if stat.S_ISDIR(info.st_mode) else "f"
            member = tarfile.TarInfo(name)
            member.mtime, member.mode = int(info.st_mtime), stat.S_IMODE(info.st_mode) | 0o600
            digest.update(f"{kind}{name}\0{member.mode & 0o111:o}\0".encode(errors="surrogateescape"))
            if kind == "f":
                left -= info.st_size
                if left < 0:
                    raise ImageBuildFailed(
                        f"the files for the image are more than {limit_bytes >> 20} MiB "
                        "(runners.build.context_limit_mib): name what is not needed in .dockerignore"
                    )
                _add_file(tar, member, path, digest)
                continue
            member.type = tarfile.SYMTYPE if kind == "l" else tarfile.DIRTYPE
            if kind == "l":
                member.linkname = str(path.readlink())
                digest.update(member.linkname.encode(errors="surrogateescape") + b"\0")
            tar.addfile(member)
        name = f".nautilus-dockerfile-{digest.hexdigest()[:16]}"
        member = tarfile.TarInfo(name)
        content = dockerfile.encode()
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return name, digest.hexdigest()


def _add_file(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, digest: hashlib._Hash) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        content = hashlib.sha256()
        while data := file.read(_CHUNK):
            content.update(data)
        digest.update(content.digest())
        member.size = file.tell()
        file.seek(0)
        tar.addfile(member, file)


def _walk(root: Path, is_ignored: _Ignore) -> Iterator[str]:
    """Files, folders and links below `root`, in one order everywhere; nothing else."""
    for folder, folders, files in os.walk(root, followlinks=False):
        at = Path(folder)
        here = "" if at == root else f"{at.relative_to(root)}/"
        folders[:] = sorted(name for name in folders if not (not here and name == ".git"))
        for name in sorted((*folders, *files)):
            path = at / name
            mode = path.lstat().st_mode
            is_kept = stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)
            if is_kept and f"{here}{name}" not in (_IGNORE, ".git") and not is_ignored(f"{here}{name}"):
                yield f"{here}{name}"


class _Ignore:
    def __init__(self, patterns: list[str]) -> None:
        from docker.utils.build import PatternMatcher

        self._matcher: Any = PatternMatcher(patterns) if patterns else None

    def __call__(self, name: str) -> bool:
        return self._matcher is not None and bool(self._matcher.matches(name))


def _ignoring(root: Path) -> _Ignore:
    path = root / _IGNORE
    if path.is_symlink() or not path.is_file():
        return _Ignore([])
    lines = path.read_text("utf-8", errors="replace")[: 1 << 20].splitlines()
    return _Ignore([line.strip() for line in lines if line.strip() and not line.startswith("#")])
