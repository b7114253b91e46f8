"""A small repository's `.git` made by copying the mirror's objects: no git process, 20 ms saved for every job.

What a copy holds beyond a fetch of the job's refs are objects of the same project that the job's token may read
as well. Depth is expressed as git itself does, in the file `shallow`.
"""

from __future__ import annotations

import fnmatch
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from nautilus_runner.payload import GitInfo
from nautilus_runner.sources.mirror import Held

MAX_BYTES = 16 << 20
MAX_FILES = 2000
_CONFIG = (
    "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n"
)


def copy_repository(held: Held, target: Path, names: Sequence[str], info: GitInfo) -> bool:
    """Make `target/.git` with the refs that `names` (each may end in a `*`) name. Blocking.

    False, with nothing made, where the mirror is too large for this, or of a kind that only git itself can read.
    """
    if info.repo_object_format != "sha1" or (held.path / "reftable").exists():
        return False
    objects = _objects(held.path / "objects")
    refs = {name: sha for name, sha in _refs(held.path) if any(fnmatch.fnmatchcase(name, n) for n in names)}
    boundary = _boundary(held.parents, info.sha, [*refs.values()], info.depth)
    if objects is None or boundary is None:
        return False
    git_dir = target / ".git"
    for folder in ("objects/pack", "objects/info", "refs/heads", "refs/tags"):
        (git_dir / folder).mkdir(parents=True)
    (git_dir / "HEAD").write_text("ref: refs/heads/none\n")
    (git_dir / "config").write_text(_CONFIG)
    for source in objects:
        copy = git_dir / "objects" / source.relative_to(held.path / "objects")
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, copy)
        copy.chmod(0o444)
    (git_dir / "packed-refs").write_text("".join(f"{sha} {name}\n" for name, sha in sorted(refs.items())))
    shallow = boundary | _shallow(held.path)
    if shallow:
        (git_dir / "shallow").write_text("".join(f"{sha}\n" for sha in sorted(shallow)))
    return True


def _objects(folder: Path) -> list[Path] | None:
    """All files of objects; None when they are too many or too large."""
    found: list[Path] = []
    size = 0
    for path in folder.rglob("*"):
        if path.is_dir() or path.name.startswith("tmp_") or path.parent.name == "info":
            continue
        found.append(path)
        size += path.stat().st_size
        if size > MAX_BYTES or len(found) > MAX_FILES:
            return None
    return found


def _refs(repository: Path) -> Iterator[tuple[str, str]]:
    """Names and targets: packed ones first, so that loose ones replace them."""
    packed = repository / "packed-refs"
    if packed.exists():
        for line in packed.read_text("utf-8").splitlines():
            if line and line[0] not in "#^":
                sha, _, name = line.partition(" ")
                yield name, sha
    for path in (repository / "refs").rglob("*"):
        if path.is_file():
            sha = path.read_text("utf-8").strip()
            if not sha.startswith("ref:"):
                yield str(path.relative_to(repository)), sha


def _boundary(parents: dict[str, list[str]], sha: str, tips: Iterable[str], depth: int) -> set[str] | None:
    """The commits behind which the history is cut; None where the listing does not reach that far."""
    if depth <= 0:
        return set()
    generation = {sha, *(tip for tip in tips if tip in parents)}
    if any(tip not in parents for tip in tips):
        return None
    seen = set(generation)
    for _ in range(depth - 1):
        following = {parent for commit in generation for parent in parents.get(commit, ())}
        if not following <= parents.keys():
            return None
        generation = following - seen
        seen |= generation
    return {commit for commit in generation if parents.get(commit)}


def _shallow(repository: Path) -> set[str]:
    try:
        return set((repository / "shallow").read_text("ascii").split())
    except FileNotFoundError:
        return set()
