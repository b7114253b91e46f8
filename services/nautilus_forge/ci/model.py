"""What the CI compiler yields: a pipeline as values, before anything is stored.

Source: GitLab's CI/CD YAML reference (doc/ci/yaml/_index.md) and the runner protocol's job payload.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class When(StrEnum):
    """`when` of a job (GitLab's words)."""

    ON_SUCCESS = "on_success"
    ON_FAILURE = "on_failure"
    ALWAYS = "always"
    MANUAL = "manual"
    DELAYED = "delayed"


@dataclass(frozen=True)
class Variable:
    """A variable of a pipeline or a job. `raw`: not expanded; `file`: the value goes into a file."""

    key: str
    value: str
    public: bool = True
    masked: bool = False
    file: bool = False
    raw: bool = False


@dataclass(frozen=True)
class Need:
    """One entry of `needs`: the named job must be over; `artifacts` says whether they are fetched."""

    job: str
    artifacts: bool = True
    optional: bool = False


@dataclass(frozen=True)
class Image:
    """`image` or one of `services`."""

    name: str
    entrypoint: tuple[str, ...] | None = None
    alias: str | None = None
    command: tuple[str, ...] | None = None
    pull_policy: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    docker_user: str | None = None
    docker_platform: str | None = None


@dataclass(frozen=True)
class Artifacts:
    """`artifacts` of a job. `reports` maps the type that a runner uploads (junit, dotenv, metrics…) to its paths;
    a `coverage_report` is under its format (cobertura, jacoco).
    """

    paths: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    name: str | None = None
    untracked: bool = False
    when: str = "on_success"
    expire_in: str | None = None
    reports: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    expose_as: str | None = None
    public: bool | None = None
    access: str | None = None


@dataclass(frozen=True)
class Cache:
    """One `cache` entry; `key_files` (with `key_prefix`) make a key of the files' last commits."""

    key: str = "default"
    key_files: tuple[str, ...] = ()
    key_prefix: str | None = None
    paths: tuple[str, ...] = ()
    untracked: bool = False
    policy: str = "pull-push"
    when: str = "on_success"
    fallback_keys: tuple[str, ...] = ()
    unprotect: bool = False


@dataclass(frozen=True)
class Retry:
    """`retry`: attempts after the first (0 to 2), for these failure reasons and exit codes (none: always)."""

    max: int = 0
    when: tuple[str, ...] = ()
    exit_codes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Environment:
    """`environment` of a job. `name` is expanded; `url` is not (it may use the job's own variables).

    `action`: start, stop, prepare, verify or access. `auto_stop_in` is GitLab's duration language, unparsed.
    """

    name: str
    url: str | None = None
    action: str = "start"
    on_stop: str | None = None
    auto_stop_in: str | None = None
    deployment_tier: str | None = None


@dataclass(frozen=True)
class CompiledJob:
    """One job as it will be created. Lists of commands are flat; each variable occurs once.

    `variables` are those of the file alone (pipeline-level where inherited, the job's, the matrix's, the
    rule's). Predefined ones, `CI_NODE_INDEX` included, come from `predefined.py`.
    """

    name: str
    stage: str
    stage_idx: int
    script: tuple[str, ...]
    before_script: tuple[str, ...] = ()
    after_script: tuple[str, ...] = ()
    when: When = When.ON_SUCCESS
    start_in_s: int | None = None
    allow_failure: bool = False
    allow_failure_exit_codes: tuple[int, ...] = ()
    tags: tuple[str, ...] = ()
    variables: tuple[Variable, ...] = ()
    image: Image | None = None
    services: tuple[Image, ...] = ()
    needs: tuple[Need, ...] | None = None
    """None: waits for the earlier stages; empty: starts at once."""
    dependencies: tuple[str, ...] | None = None
    artifacts: Artifacts | None = None
    cache: tuple[Cache, ...] = ()
    retry: Retry = Retry()
    timeout_s: int | None = None
    interruptible: bool = False
    environment: Environment | None = None
    coverage: str | None = None
    hooks_pre_get_sources: tuple[str, ...] = ()
    parallel_index: int | None = None
    parallel_total: int | None = None


@dataclass(frozen=True)
class Prefill:
    """What a form for a manual pipeline offers for a pipeline-level variable."""

    key: str
    value: str
    description: str | None = None
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class IncludedFile:
    """A file that was included. `type`: local, file (of another project) or template (GitLab's words)."""

    type: str
    location: str
    project: str | None = None
    ref: str | None = None


@dataclass(frozen=True)
class CompiledPipeline:
    """Jobs in stage order. `variables` are the pipeline-level ones (part of each job's, where inherited).

    `auto_cancel_on_new_commit`: conservative, interruptible or none.
    `auto_cancel_on_job_failure`: none or all.
    """

    stages: tuple[str, ...]
    jobs: tuple[CompiledJob, ...]
    variables: tuple[Variable, ...] = ()
    name: str | None = None
    warnings: tuple[str, ...] = ()
    auto_cancel_on_new_commit: str = "conservative"
    auto_cancel_on_job_failure: str = "none"
    prefills: tuple[Prefill, ...] = ()
    includes: tuple[IncludedFile, ...] = ()


@dataclass(frozen=True)
class ConfigError:
    """One mistake in the configuration; line and column count from 1, None where no place can be named."""

    message: str
    line: int | None = None
    column: int | None = None
    file: str = ".gitlab-ci.yml"

    def __str__(self) -> str:
        """The message with its place, for people; `message` alone is GitLab's wording."""
        if self.line is None:
            return self.message
        return f"{self.message} ({self.file} line {self.line} column {self.column})"


class CiConfigError(Exception):
    """The configuration is not valid; `errors` holds every mistake that was found (at least one)."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        super().__init__("; ".join(e.message for e in errors))
        self.errors = tuple(errors)


class ProjectNotReadable(LookupError):
    """For `Context.read_file` to raise: no such project, or the user may not read it."""


class RefNotFound(LookupError):
    """For `Context.read_file` to raise: the project has no such ref."""


class NoPipeline(Exception):
    """`workflow:rules` or every job's `rules` say: no pipeline. The message is GitLab's."""


@dataclass(frozen=True)
class Context:
    """All that compiling may look at. The compiler does no input or output of its own.

    `predefined`: GitLab's predefined variables that exist before any job does (see `predefined.py`); those of
    the file (`variables:`) win over them.
    `variables`: stored, trigger and pipeline variables; they win over those of the file.
    `inputs`: values for the main file's own `spec:inputs`.
    `changed_paths`: paths changed by the push, None when unknown (then `rules:changes` holds, as in GitLab).
    `changed_since(ref)`: paths changed since the common ancestor with a ref of the project (`compare_to`), None when
    unknown. Raises `RefNotFound`.
    `existing_paths`: paths of the commit's tree, for `rules:exists`.
    `read_file(project, path, ref)`: text of an included file (project None: the same project and commit;
    ref None: the default branch of that project). Raises `FileNotFoundError`, `ProjectNotReadable`,
    `RefNotFound`. `template(name)`: text of a CI template, raises `FileNotFoundError`.
    """

    ref: str
    source: str = "push"
    is_tag: bool = False
    default_branch: str = "main"
    variables: Mapping[str, str] = field(default_factory=dict)
    predefined: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    file: str = ".gitlab-ci.yml"
    changed_paths: frozenset[str] | None = None
    existing_paths: frozenset[str] = frozenset()
    changed_since: Callable[[str], frozenset[str] | None] | None = None
    read_file: Callable[[str | None, str, str | None], str] | None = None
    template: Callable[[str], str] | None = None
