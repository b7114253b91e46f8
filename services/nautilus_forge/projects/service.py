"""Making and changing projects.

Source: gitlabhq app/services/projects/{create,update}_service.rb.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.appsettings.values import current_values
from nautilus_forge.db.models import Member, Namespace, Project, User
from nautilus_forge.db.models.namespace import NamespaceKind
from nautilus_forge.errors import BadRequest, InvalidRecord
from nautilus_forge.forge import Forge
from nautilus_forge.git import refs
from nautilus_forge.git.writing import ZERO_SHA, Action, Person, write_commit
from nautilus_forge.groups.inheritance import first_branch, shared_runners
from nautilus_forge.namespaces import visibility as allowed
from nautilus_forge.policy import Level
from nautilus_forge.project_templates.catalogue import ProjectTemplate
from nautilus_forge.projects import naming, topics
from nautilus_forge.projects.branches import protect_default_branch
from nautilus_forge.registry import renaming

_COLUMNS = {
    "name",
    "path",
    "description",
    "visibility",
    "default_branch",
    "ci_config_path",
    "shared_runners_enabled",
    "topics",
}


async def create_project(
    db: AsyncSession,
    forge: Forge,
    *,
    creator: User,
    owner: User,
    namespace: Namespace,
    given: dict[str, Any],
    with_readme: bool = False,
    template: ProjectTemplate | None = None,
) -> Project:
    """A project with its empty repository (or one with a README, or a template's files). Raises `InvalidRecord`.

    `given`: columns and attributes as the API names them; `owner` becomes the owning member of a project that
    is in nobody's group (who may do what in a group's project, the group's members say).
    """
    settings = await current_values(db)
    given = dict(given)
    name = given.pop("name", None) or given.get("path", "")
    path = given.pop("path", None) or naming.path_of_name(name)
    given.setdefault("visibility", allowed.default_in(namespace, settings.default_project_visibility))
    branch = given.pop("default_branch", None) or first_branch(namespace, settings)
    if settings.default_ci_config_path and not given.get("ci_config_path"):
        given["ci_config_path"] = settings.default_ci_config_path
    given["shared_runners_enabled"] = shared_runners(namespace, settings, given.get("shared_runners_enabled"))
    _refuse(name=name, path=path, branch=branch, ci_path=given.get("ci_config_path"))
    _refuse_visibility(creator, namespace, given["visibility"], settings.restricted_visibility_levels)
    await topics.ensure(db, given.get("topics") or ())
    await require_free_path(db, namespace, path)
    project = Project(
        namespace_id=namespace.id,
        creator_id=creator.id,
        name=name,
        path=path,
        default_branch=branch,
        attributes={},
    )
    apply(project, given)
    db.add(project)
    await _flush(db)
    if namespace.kind == NamespaceKind.USER:
        db.add(
            Member(
                user_id=owner.id, project_id=project.id, access_level=Level.OWNER, created_by_id=creator.id
            )
        )
        await db.flush()
    await db.refresh(project)
    await forge.repositories.create(project.id, branch)
    if template is not None:
        files, message = template.files(), f"Initialized from '{template.title}' project template"
        await _write_first_commit(db, forge, project, creator, files, message)
    elif with_readme:
        text = f"# {project.name}\n" + (f"\n{project.description}\n" if project.description else "")
        files = {"README.md": text.encode()}
        await _write_first_commit(db, forge, project, creator, files, "Initial commit")
    return project


def _refuse(*, name: str, path: str, branch: str, ci_path: str | None) -> None:
    problems = {
        "name": naming.name_problems(name),
        "path": naming.path_problems(path),
        "default_branch": [] if refs.is_valid_name(branch) else ["is invalid"],
        "ci_config_path": naming.ci_path_problems(ci_path),
    }
    if real := {field: messages for field, messages in problems.items() if messages}:
        raise InvalidRecord(real)


def _refuse_visibility(user: User, namespace: Namespace, visibility: str, restricted: Sequence[str]) -> None:
    found = allowed.restriction(user, visibility, restricted)
    if found := found or allowed.problems_of_project(namespace, visibility):
        raise InvalidRecord({"visibility_level": found})


async def require_free_path(db: AsyncSession, namespace: Namespace, path: str, but: int = 0) -> None:
    """Raises `InvalidRecord` where another project (not `but`) has the path, or a group does."""
    taken = select(Project.id).where(
        Project.namespace_id == namespace.id, func.lower(Project.path) == path.lower(), Project.id != but
    )
    full_path = f"{namespace.full_path}/{path}".lower()
    group = select(Namespace.id).where(func.lower(Namespace.full_path) == full_path)
    if await db.scalar(taken) is not None or await db.scalar(group) is not None:
        raise _taken()


def _taken() -> InvalidRecord:
    words = ["has already been taken"]
    return InvalidRecord({"project_namespace.name": words, "name": words, "path": words})


async def _flush(db: AsyncSession) -> None:
    try:
        await db.flush()
    except IntegrityError as error:
        raise _taken() from error


async def _write_first_commit(
    db: AsyncSession,
    forge: Forge,
    project: Project,
    user: User,
    files: Mapping[str, bytes],
    message: str,
) -> None:
    """Makes no pipeline, as in GitLab."""
    git = forge.repositories.git(project.id)
    person = Person(user.name, user.email)
    sha = await write_commit(
        git,
        forge.repositories.tmp_dir,
        parent=None,
        actions=[Action("create", path, content=content) for path, content in files.items()],
        message=message,
        author=person,
        committer=person,
    )
    await refs.move_ref(git, f"refs/heads/{project.default_branch}", ZERO_SHA, sha)
    await protect_default_branch(db, project.id, project.default_branch)


def apply(project: Project, given: dict[str, Any]) -> None:
    """Set columns and attributes; a value of None resets an attribute to its default."""
    attributes = dict(project.attributes)
    for name, value in given.items():
        if name == "build_timeout":
            project.build_timeout_s = value if value is not None else 3600
        elif name in _COLUMNS:
            setattr(project, name, value)
        elif value is None:
            attributes.pop(name, None)
        else:
            attributes[name] = value
    project.attributes = attributes


async def change_project(
    db: AsyncSession, forge: Forge, user: User, project: Project, given: dict[str, Any]
) -> None:
    """Raises `InvalidRecord`, and `BadRequest` for a default branch that does not exist."""
    _refuse(
        name=given.get("name") or project.name,
        path=given.get("path") or project.path,
        branch=given.get("default_branch") or project.default_branch,
        ci_path=given.get("ci_config_path"),
    )
    if (visibility := given.get("visibility")) is not None and visibility != project.visibility:
        settings = await current_values(db)
        _refuse_visibility(user, project.namespace, visibility, settings.restricted_visibility_levels)
    await topics.ensure(db, given.get("topics") or ())
    is_renamed = bool(given.get("path")) and given["path"] != project.path
    if is_renamed:
        await require_free_path(db, project.namespace, given["path"], but=project.id)
        if await renaming.has_tags(db, forge, [project.id]):
            raise BadRequest(message="Cannot rename project because it contains container registry tags!")
    branch = given.get("default_branch")
    if branch and branch != project.default_branch:
        git = forge.repositories.git(project.id)
        is_empty = forge.repositories.is_empty(project.id)
        if not is_empty and await refs.ref_sha(git, f"refs/heads/{branch}") == ZERO_SHA:
            raise BadRequest(message={"base": ["Could not set the default branch"]})
        await forge.repositories.set_head(project.id, branch)
    apply(
        project, {name: value for name, value in given.items() if value is not None or name not in _REQUIRED}
    )
    await _flush(db)
    await db.refresh(project)
    if is_renamed:
        await renaming.follow(db, project)


_REQUIRED = {"name", "path", "visibility", "default_branch", "shared_runners_enabled", "topics"}
