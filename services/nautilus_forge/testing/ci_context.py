"""A context for the CI compiler: a push to main, with files in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nautilus_forge.ci.model import Context, ProjectNotReadable, RefNotFound

PUSH_TO_MAIN = {
    "CI_COMMIT_BRANCH": "main",
    "CI_COMMIT_REF_NAME": "main",
    "CI_COMMIT_REF_SLUG": "main",
    "CI_DEFAULT_BRANCH": "main",
    "CI_PIPELINE_SOURCE": "push",
}

Files = Mapping[str, str]


def context_of(
    *,
    files: Files | None = None,
    others: Mapping[tuple[str, str | None], Files] | None = None,
    templates: Files | None = None,
    predefined: Mapping[str, str] | None = None,
    **more: Any,
) -> Context:
    """A context. `files` are those of the commit, `others` those of other projects by project and ref."""
    own, elsewhere = files or {}, others or {}

    def read(project: str | None, path: str, ref: str | None) -> str:
        if project is None:
            found = own
        elif not any(name == project for name, _ in elsewhere):
            raise ProjectNotReadable(project)
        elif (project, ref) not in elsewhere:
            raise RefNotFound(ref)
        else:
            found = elsewhere[project, ref]
        return _one(found, path)

    more.setdefault("existing_paths", frozenset(own))
    more.setdefault("ref", "main")
    return Context(
        predefined=PUSH_TO_MAIN if predefined is None else predefined,
        read_file=read,
        template=lambda name: _one(templates or {}, name),
        **more,
    )


def _one(files: Files, path: str) -> str:
    if path not in files:
        raise FileNotFoundError(path)
    return files[path]
