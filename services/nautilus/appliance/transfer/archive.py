"""Folders as tar files and back. What comes out may be forged: nothing is written outside of its place."""

from __future__ import annotations

import grp
import os
import pwd
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from nautilus.appliance.errors import TransferFailed

_PACKAGE = "/opt/gitlab/"
_PERMISSIONS = 0o777
"""No set-user-id and the like comes back."""


def pack(folder: Path, out: Path, leave_out: Callable[[PurePosixPath], bool]) -> None:
    """Everything below `folder`: files, folders, symbolic links. Sockets and pipes are of the moment and stay.

    Raises TransferFailed for a link to the outside: what it stands for would be missing from the export. Links into
    GitLab's package are left out; reconfigure makes them anew.
    """

    def member(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        path = PurePosixPath(info.name)
        if info.name != "." and leave_out(path.relative_to(".")):
            return None
        if info.issym() and info.linkname.startswith(_PACKAGE):
            return None
        if info.issym() and _points_outside(info):
            raise TransferFailed(
                f"{folder / path} is a link to {info.linkname}, outside of the data: put its content in its place"
            )
        return info if info.isfile() or info.isdir() or info.issym() or info.islnk() else None

    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(folder, arcname=".", filter=member)


def unpack(path: Path, folder: Path, default_owner: str) -> None:
    """Into `folder`, which is made. As root each file gets its owner by name, or `default_owner` where the name is
    not known here. Raises TransferFailed for a member that a `pack` never writes."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    owners = _Owners(default_owner)
    folders: list[tuple[Path, tarfile.TarInfo]] = []
    try:
        with tarfile.open(path, "r:") as archive:
            for info in archive:
                target = _place(folder, info)
                if info.isdir():
                    target.mkdir(mode=0o700, exist_ok=True)
                    folders.append((target, info))
                else:
                    _write(archive, info, folder, target)
                owners.give(target, info)
    except tarfile.TarError as error:
        raise TransferFailed(f"{path} cannot be unpacked: {error}") from error
    for target, info in reversed(folders):
        target.chmod(info.mode & _PERMISSIONS)
        os.utime(target, (info.mtime, info.mtime))


def _place(folder: Path, info: tarfile.TarInfo) -> Path:
    """Where the member goes; no part of the way there may be a link that an earlier member has made."""
    parts = PurePosixPath(info.name).parts
    if PurePosixPath(info.name).is_absolute() or ".." in parts:
        raise TransferFailed(f"the archive names a file outside of itself: {info.name!r}")
    at = folder
    for part in parts[:-1]:
        at = at / part
        if at.is_symlink() or not at.is_dir():
            raise TransferFailed(f"the archive goes through something that is no folder: {info.name!r}")
    target = folder.joinpath(*parts)
    if target.is_symlink() or (target.exists() and not info.isdir()):
        raise TransferFailed(f"the archive names {info.name!r} twice")
    return target


def _write(archive: tarfile.TarFile, info: tarfile.TarInfo, folder: Path, target: Path) -> None:
    if info.issym():
        if _points_outside(info):
            raise TransferFailed(f"the archive links to the outside: {info.name!r} → {info.linkname!r}")
        target.symlink_to(info.linkname)
    elif info.islnk():
        linked = tarfile.TarInfo(info.linkname)
        source = folder.joinpath(*_place_of_link(linked))
        if source.is_symlink() or not source.is_file():
            raise TransferFailed(f"the archive links to what it does not hold: {info.name!r}")
        os.link(source, target)
    elif info.isfile():
        content = archive.extractfile(info)
        assert content is not None
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            while block := content.read(1 << 20):
                file.write(block)
            os.fchmod(file.fileno(), info.mode & _PERMISSIONS)
        os.utime(target, (info.mtime, info.mtime))
    else:
        raise TransferFailed(f"the archive holds what is neither file, folder nor link: {info.name!r}")


def _points_outside(info: tarfile.TarInfo) -> bool:
    """Whether a symbolic link leads out of the folder that the archive is of."""
    target = os.path.normpath(PurePosixPath(info.name).parent / info.linkname)
    return PurePosixPath(info.linkname).is_absolute() or target.split("/")[0] == ".."


def _place_of_link(info: tarfile.TarInfo) -> tuple[str, ...]:
    parts = PurePosixPath(info.name).parts
    if PurePosixPath(info.name).is_absolute() or ".." in parts:
        raise TransferFailed(f"the archive links to the outside: {info.name!r}")
    return parts


class _Owners:
    """Names as ids, each looked up once. Does nothing for an ordinary user, who can own only what is his."""

    def __init__(self, default: str) -> None:
        self._is_root = os.geteuid() == 0
        self._default = pwd.getpwnam(default)
        self._users: dict[str, int] = {}
        self._groups: dict[str, int] = {}

    def give(self, target: Path, info: tarfile.TarInfo) -> None:
        if not self._is_root:
            return
        user = self._users.setdefault(info.uname, _user_id(info.uname, self._default.pw_uid))
        group = self._groups.setdefault(info.gname, _group_id(info.gname, self._default.pw_gid))
        os.chown(target, user, group, follow_symlinks=False)


def _user_id(name: str, default: int) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return default


def _group_id(name: str, default: int) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return default
