"""Where each project's bare repository lies, and how it is made and removed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from pathlib import Path

from nautilus_forge.files import TEMPORARY_PREFIX
from nautilus_forge.git import configuration
from nautilus_forge.git.command import Git
from nautilus_forge.git.writing import COMMIT_FOLDER
from nautilus_forge.settings import Settings


def hashed_path(project_id: int) -> str:
    """`@hashed/6b/86/6b86….git` for project 1.

    Source: GitLab's hashed storage (doc/administration/repository_storage_paths.md).
    """
    digest = hashlib.sha256(str(project_id).encode()).hexdigest()
    return f"@hashed/{digest[:2]}/{digest[2:4]}/{digest}.git"


class RepositoryStore:
    """The repositories below `data_dir/repositories`."""

    def __init__(self, settings: Settings) -> None:
        self._root = settings.data_dir / "repositories"
        self._hooks = settings.hooks_dir
        self._tmp = settings.tmp_dir
        self._timeout_s = settings.git_timeout_s

    def path(self, project_id: int) -> Path:
        """Absolute path of the project's bare repository, whether or not it exists."""
        return self._root / hashed_path(project_id)

    def git(self, project_id: int) -> Git:
        """Git's plumbing on the project's repository."""
        return Git(self.path(project_id), self._timeout_s)

    @property
    def tmp_dir(self) -> Path:
        """A folder on the same file system, for files of short life."""
        return self._tmp

    async def create(self, project_id: int, default_branch: str) -> None:
        """An empty bare repository whose HEAD is `default_branch`; does nothing where there is one already."""
        await asyncio.to_thread(self._create, project_id, default_branch)

    def _create(self, project_id: int, default_branch: str) -> None:
        final = self.path(project_id)
        if final.exists():
            return
        final.parent.mkdir(parents=True, exist_ok=True)
        making = final.with_name(f".{final.name}.new")
        shutil.rmtree(making, ignore_errors=True)
        for folder in ("objects/info", "objects/pack", "refs/heads", "refs/tags", "info"):
            (making / folder).mkdir(parents=True)
        (making / "HEAD").write_text(f"ref: refs/heads/{default_branch}\n", encoding="utf-8")
        (making / "config").write_text(configuration.of_repository(self._hooks), encoding="utf-8")
        making.rename(final)

    async def clear_leftovers(self) -> None:
        """Remove what commits and uploads that were cut off by a crash left in the folder for temporary files."""
        await asyncio.to_thread(self._clear_leftovers)

    def _clear_leftovers(self) -> None:
        for folder in self._tmp.glob(f"{COMMIT_FOLDER}*"):
            shutil.rmtree(folder, ignore_errors=True)
        for file in self._tmp.glob(f"{TEMPORARY_PREFIX}*"):
            file.unlink(missing_ok=True)

    def is_empty(self, project_id: int) -> bool:
        """Has the repository no branch? Looks at the ref files alone, without starting git."""
        path = self.path(project_id)
        for _, _, files in os.walk(path / "refs" / "heads"):
            if any(not name.endswith(".lock") for name in files):
                return False
        try:
            return b" refs/heads/" not in (path / "packed-refs").read_bytes()
        except FileNotFoundError:
            return True

    async def set_head(self, project_id: int, branch: str) -> None:
        """Point HEAD at a branch. Raises `GitError`."""
        await self.git(project_id).output("symbolic-ref", "HEAD", f"refs/heads/{branch}")

    async def remove(self, project_id: int) -> None:
        """Delete the repository; it is first renamed, so that nothing sees half of it."""
        await asyncio.to_thread(self._remove, project_id)

    def _remove(self, project_id: int) -> None:
        path = self.path(project_id)
        doomed = path.with_name(f".{path.name}.deleted")
        if path.exists():
            shutil.rmtree(doomed, ignore_errors=True)
            path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
