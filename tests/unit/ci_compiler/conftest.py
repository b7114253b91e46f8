"""Compiling in one line: `compiled(text, …)` gives the pipeline, `mistakes(text, …)` what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from nautilus_forge.ci.compiler import compile_pipeline
from nautilus_forge.ci.model import (
    CiConfigError,
    CompiledPipeline,
    ConfigError,
    Context,
    ProjectNotReadable,
    RefNotFound,
)

PUSH_TO_MAIN = {
    "CI_COMMIT_BRANCH": "main",
    "CI_COMMIT_REF_NAME": "main",
    "CI_COMMIT_REF_SLUG": "main",
    "CI_DEFAULT_BRANCH": "main",
    "CI_PIPELINE_SOURCE": "push",
}


class Repository:
    """Files by path, and by project, ref and path: what includes are read from."""

    def __init__(
        self, files: Mapping[str, str], others: Mapping[tuple[str, str | None], Mapping[str, str]]
    ) -> None:
        self.files = files
        self.others = others

    def read(self, project: str | None, path: str, ref: str | None) -> str:
        if project is None:
            found = self.files
        elif not any(name == project for name, _ in self.others):
            raise ProjectNotReadable(project)
        elif (project, ref) not in self.others:
            raise RefNotFound(ref)
        else:
            found = self.others[project, ref]
        if path not in found:
            raise FileNotFoundError(path)
        return found[path]


def context_of(
    *,
    files: Mapping[str, str] | None = None,
    others: Mapping[tuple[str, str | None], Mapping[str, str]] | None = None,
    templates: Mapping[str, str] | None = None,
    predefined: Mapping[str, str] | None = None,
    **more: Any,
) -> Context:
    repository = Repository(files or {}, others or {})

    def template(name: str) -> str:
        if templates is None or name not in templates:
            raise FileNotFoundError(name)
        return templates[name]

    more.setdefault("existing_paths", frozenset(files or {}))
    return Context(
        ref="main",
        predefined=PUSH_TO_MAIN if predefined is None else predefined,
        read_file=repository.read,
        template=template,
        **more,
    )


@pytest.fixture
def compiled() -> Callable[..., CompiledPipeline]:
    """The pipeline of a text on a push to main (or in the context that the keywords describe)."""
    return lambda text, **more: compile_pipeline(text, context_of(**more))


@pytest.fixture
def mistakes() -> Callable[..., list[ConfigError]]:
    """What is wrong with a text; fails where nothing is."""

    def find(text: str, **more: Any) -> list[ConfigError]:
        with pytest.raises(CiConfigError) as caught:
            compile_pipeline(text, context_of(**more))
        return list(caught.value.errors)

    return find


@pytest.fixture
def messages(mistakes: Callable[..., list[ConfigError]]) -> Callable[..., list[str]]:
    """The messages alone."""
    return lambda text, **more: [mistake.message for mistake in mistakes(text, **more)]
