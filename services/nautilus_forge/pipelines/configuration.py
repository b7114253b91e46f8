"""Everything that the compiler looks at, read from the repository and the database before it runs.

The compiler is pure and blocks; it runs in a thread, and asks back for included files through the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.auth import Principal
from nautilus_forge.ci.model import ConfigError, Context, ProjectNotReadable, RefNotFound
from nautilus_forge.db.models import Project, User
from nautilus_forge.errors import Forbidden, GitError, NotFound
from nautilus_forge.forge import Forge
from nautilus_forge.git import diffs, revisions, trees
from nautilus_forge.git.refs import merge_base
from nautilus_forge.policy import Ability
from nautilus_forge.ports import ZERO_SHA
from nautilus_forge.projects.access import find_project, standing_of

MAX_CONFIG_BYTES = 4 << 20
_FILE_TIMEOUT_S = 30.0


class NoConfiguration(Exception):
    """The commit has no CI configuration: then there is no pipeline."""


class BrokenConfiguration(Exception):
    """The configuration cannot even be read; the message goes into `yaml_errors`."""


@dataclass(frozen=True)
class OfMergeRequest:
    """The merge request that a pipeline is of. `branch`: its source. `base_sha`: for `rules:changes`."""

    id: int
    branch: str
    base_sha: str | None


@dataclass(frozen=True)
class Source:
    """A commit and what its pipeline is for. `before_sha`: for `rules:changes`, `ZERO_SHA` where unknown.

    `merge_variables`: what the pipeline knows of merge requests (`pipelines.merge_requests`).
    """

    project: Project
    user: User | None
    ref: str
    is_tag: bool
    sha: str
    before_sha: str
    kind: str
    merge_request: OfMergeRequest | None = None
    merge_variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def branch_name(self) -> str:
        """What `CI_COMMIT_REF_NAME` says."""
        return self.merge_request.branch if self.merge_request is not None else self.ref


async def read_configuration(forge: Forge, db: AsyncSession, source: Source) -> str:
    """The text of the project's CI file at the commit. Raises `NoConfiguration`, `BrokenConfiguration`."""
    path = source.project.ci_path
    if "://" in path:
        raise BrokenConfiguration(f"A CI configuration at another address is not supported: {path}")
    if "@" in path:
        return await _from_other_project(forge, db, source, path)
    git = forge.repositories.git(source.project.id)
    try:
        content = await trees.read_file(git, source.sha, path, MAX_CONFIG_BYTES)
    except GitError as error:
        raise BrokenConfiguration(
            f"{path} cannot be read, or is longer than {MAX_CONFIG_BYTES} bytes"
        ) from error
    if content is None:
        raise NoConfiguration
    return content.decode("utf-8", "replace")


async def _from_other_project(forge: Forge, db: AsyncSession, source: Source, path: str) -> str:
    """`path@group/project[:ref]`. Source: doc/ci/pipelines/settings.md "Specify a custom CI/CD configuration file"."""
    file, _, place = path.partition("@")
    project, _, ref = place.partition(":")
    try:
        return await _read_included(forge, db, source, project, file, ref or None)
    except (FileNotFoundError, ProjectNotReadable, RefNotFound) as error:
        raise BrokenConfiguration(f"Project `{project}` or its file `{file}` cannot be read") from error


async def make_context(
    forge: Forge,
    db: AsyncSession,
    source: Source,
    text: str,
    predefined: Mapping[str, str],
    variables: Mapping[str, str],
) -> Context:
    """The compiler's context. The commit's paths are listed only where the text may ask for them."""
    git = forge.repositories.git(source.project.id)
    loop = asyncio.get_running_loop()
    has_includes = "include" in text or "extends" in text
    changed = None
    if has_includes or "changes" in text or "only" in text or "except" in text:
        changed = await _changed_paths(forge, source)
    existing: frozenset[str] = frozenset()
    if has_includes or "exists" in text:
        existing = await trees.all_paths(git, source.sha)

    known: dict[tuple[str | None, str, str | None], str] = {}

    def read_file(project: str | None, path: str, ref: str | None) -> str:
        at = (project, path, ref)
        if at not in known:
            reading = _read_included(forge, db, source, project, path, ref)
            known[at] = asyncio.run_coroutine_threadsafe(reading, loop).result(_FILE_TIMEOUT_S)
        return known[at]

    def changed_since(ref: str) -> frozenset[str] | None:
        reading = _changed_since(forge, source, ref)
        return asyncio.run_coroutine_threadsafe(reading, loop).result(_FILE_TIMEOUT_S)

    return Context(
        ref=source.ref,
        source=source.kind,
        is_tag=source.is_tag,
        default_branch=source.project.default_branch,
        variables=variables,
        predefined=predefined,
        file=source.project.ci_path,
        changed_paths=changed,
        changed_since=changed_since,
        existing_paths=existing,
        read_file=read_file,
        template=_template,
    )


async def _changed_paths(forge: Forge, source: Source) -> frozenset[str] | None:
    """None where there is nothing to compare with: a new branch, a tag, a pipeline that no push made."""
    before = source.before_sha
    if source.merge_request is not None:
        before = source.merge_request.base_sha or ZERO_SHA
    if source.is_tag or before == ZERO_SHA:
        return None
    git = forge.repositories.git(source.project.id)
    try:
        return await diffs.changed_paths(git, before, source.sha)
    except GitError:
        return None


async def _changed_since(forge: Forge, source: Source, ref: str) -> frozenset[str] | None:
    """What `rules:changes:compare_to` asks for. Raises `RefNotFound`.

    Source: app/models/ci/pipeline.rb (modified_paths_since).
    """
    git = forge.repositories.git(source.project.id)
    sha = await revisions.commit_sha(git, ref)
    if sha is None:
        raise RefNotFound(ref)
    try:
        base = await merge_base(git, sha, source.sha)
        return await diffs.changed_paths(git, base or sha, source.sha)
    except GitError:
        return None


async def _read_included(
    forge: Forge, db: AsyncSession, source: Source, project_path: str | None, path: str, ref: str | None
) -> str:
    """Raises `FileNotFoundError`, `ProjectNotReadable` (by the pipeline's user), `RefNotFound`."""
    project, sha = source.project, source.sha
    if project_path is not None:
        found = await find_project(db, project_path)
        if found is None:
            raise ProjectNotReadable(project_path)
        try:
            standing = await standing_of(db, Principal(user=source.user), found)
            standing.require(Ability.READ_CODE)
        except (NotFound, Forbidden) as error:
            raise ProjectNotReadable(project_path) from error
        resolved = await revisions.commit_sha(forge.repositories.git(found.id), ref or found.default_branch)
        if resolved is None:
            raise RefNotFound(ref or found.default_branch)
        project, sha = found, resolved
    content = None
    try:
        git = forge.repositories.git(project.id)
        content = await trees.read_file(git, sha, path.lstrip("/"), MAX_CONFIG_BYTES)
    except GitError as error:
        raise FileNotFoundError(path) from error
    if content is None:
        raise FileNotFoundError(path)
    return content.decode("utf-8", "replace")


def _template(name: str) -> str:
    """We ship no CI templates: `include:template` is an error that names it."""
    raise FileNotFoundError(name)


def as_text(errors: tuple[ConfigError, ...]) -> str:
    """`yaml_errors` of a pipeline: one mistake a line, each with its place."""
    return "\n".join(str(error) for error in errors)
