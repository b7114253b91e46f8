"""The corpus: one folder a configuration, with what it shall become beside it.

`expected.yml` has one document for each context that the configuration is compiled in: `context` (a push to main
where it says nothing), and `pipeline`, `errors` or `no_pipeline`. `schema: refuses WHAT` in the first marks a
configuration that GitLab's schema of the file refuses (it is stricter than GitLab at times). All other files of the
folder are those of the commit; those below `projects/GROUP/NAME@REF/` are of another project, those below `templates/`
templates of the server.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nautilus_forge.ci.model import CompiledJob, CompiledPipeline, ConfigError, Context, RefNotFound, Variable
from nautilus_forge.testing.ci_context import PUSH_TO_MAIN, context_of

CONFIG = ".gitlab-ci.yml"
EXPECTED = "expected.yml"


@dataclass(frozen=True)
class Expectation:
    """One document of `expected.yml`."""

    folder: Path
    number: int
    about: str
    context: dict[str, Any]
    outcome: dict[str, Any]

    @property
    def text(self) -> str:
        """The configuration."""
        return read(self.folder / CONFIG)

    def __str__(self) -> str:
        return f"{self.folder.name}-{self.number}"


def read(path: Path) -> str:
    """The text as git has it: no line ending is changed."""
    return path.read_bytes().decode()


def folders(corpus: Path) -> list[Path]:
    """One for each configuration."""
    return sorted(path.parent for path in corpus.glob(f"*/{EXPECTED}"))


def expectations(corpus: Path) -> Iterator[Expectation]:
    """All of them."""
    for folder in folders(corpus):
        for number, document in enumerate(yaml.safe_load_all(read(folder / EXPECTED)), start=1):
            outcome = dict(document)
            outcome.pop("schema", None)
            about, context = outcome.pop("about"), outcome.pop("context", {})
            yield Expectation(folder, number, about, context, outcome)


def is_refused_by_the_schema(folder: Path) -> bool:
    """Whether the first document says so."""
    return "schema" in next(iter(yaml.safe_load_all(read(folder / EXPECTED))))


def context_for(expectation: Expectation) -> Context:
    """The context that the expectation describes."""
    given = dict(expectation.context)
    files = _files(expectation.folder)
    predefined = {**PUSH_TO_MAIN, **given.pop("predefined", {})}
    tree = frozenset(given.pop("tree", [])) | frozenset(files)
    changed = given.pop("changed", None)
    since: dict[str, list[str]] = given.pop("changed_since", {})

    def changed_since(ref: str) -> frozenset[str]:
        if ref not in since:
            raise RefNotFound(ref)
        return frozenset(since[ref])

    return context_of(
        files=files,
        others=_others(expectation.folder / "projects"),
        templates=_files(expectation.folder / "templates"),
        predefined={key: value for key, value in predefined.items() if value is not None},
        existing_paths=tree,
        changed_paths=None if changed is None else frozenset(changed),
        changed_since=changed_since,
        **given,
    )


def _files(folder: Path) -> dict[str, str]:
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    left_out = (EXPECTED, "projects/", "templates/")
    return {name: read(path) for name, path in found.items() if not name.startswith(left_out)}


def _others(folder: Path) -> dict[tuple[str, str | None], dict[str, str]]:
    others: dict[tuple[str, str | None], dict[str, str]] = {}
    for project in folder.glob("*/*"):
        name, _, ref = str(project.relative_to(folder)).partition("@")
        others[name, ref or None] = _files(project)
    return others


def described(pipeline: CompiledPipeline) -> dict[str, Any]:
    """The whole pipeline, in the words of `expected.yml`: what is as by default is left out."""
    jobs = {job.name: _job(job) for job in pipeline.jobs}
    assert len(jobs) == len(pipeline.jobs)
    assert [job.stage_idx for job in pipeline.jobs] == [
        pipeline.stages.index(job.stage) for job in pipeline.jobs
    ]
    found = _fields(pipeline) | {"stages": list(pipeline.stages), "jobs": jobs}
    if "includes" in found:
        found["includes"] = [
            " ".join(part for part in (file.type, file.project, file.ref, file.location) if part)
            for file in pipeline.includes
        ]
    return found


def _job(job: CompiledJob) -> dict[str, Any]:
    found = _fields(job)
    if job.needs is not None:
        found["needs"] = [_short(need, "job") for need in job.needs]
    if job.services:
        found["services"] = [_short(service, "name") for service in job.services]
    if job.image:
        found["image"] = _short(job.image, "name")
    if job.environment:
        found["environment"] = _short(job.environment, "name")
    for name in ("name", "stage_idx"):
        found.pop(name, None)
    return found


def _short(value: Any, name: str) -> Any:
    fields = _fields(value)
    return fields[name] if set(fields) == {name} else fields


def _fields(value: Any) -> dict[str, Any]:
    found = {}
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        factory = field.default_factory
        default = field.default if factory is dataclasses.MISSING else factory()
        if item != default or (item is False and default is None):
            found[field.name] = _plain(item)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, tuple) and value and isinstance(value[0], Variable):
        return {one.key: {"value": one.value, "expand": False} if one.raw else one.value for one in value}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value):
        return _fields(value)
    return getattr(value, "value", value)


def placed(error: ConfigError) -> dict[str, str]:
    """The mistake in the words of `expected.yml`."""
    if error.line is None:
        return {"message": error.message}
    return {"message": error.message, "at": f"{error.file}:{error.line}:{error.column}"}
