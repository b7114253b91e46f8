"""A configuration that was checked: jobs before their rules are asked and before they are multiplied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nautilus_forge.ci.expression import Expression
from nautilus_forge.ci.model import Artifacts, Cache, Environment, Image, Prefill, Retry, Variable
from nautilus_forge.ci.values import Place


@dataclass(frozen=True, slots=True)
class NeedConfig:
    """One entry of `needs`; `matrix` selects instances of a job with `parallel` (None: all of them)."""

    job: str
    artifacts: bool = True
    optional: bool = False
    matrix: tuple[Mapping[str, tuple[str, ...]], ...] | None = None
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: it matches where all of its conditions hold (one that is None is not asked)."""

    condition: Expression | None = None
    changes: tuple[str, ...] | None = None
    compare_to: str | None = None
    exists: tuple[str, ...] | None = None
    when: str | None = None
    start_in_s: int | None = None
    allow_failure: bool | None = None
    interruptible: bool | None = None
    variables: tuple[Variable, ...] = ()
    needs: tuple[NeedConfig, ...] | None = None
    auto_cancel: AutoCancel | None = None


@dataclass(frozen=True, slots=True)
class AutoCancel:
    """`workflow:auto_cancel`; None where nothing is said."""

    on_new_commit: str | None = None
    on_job_failure: str | None = None


@dataclass(frozen=True, slots=True)
class Inherit:
    """`inherit`: all (True), none (False) or the named ones."""

    default: bool | frozenset[str] = True
    variables: bool | frozenset[str] = True


@dataclass(frozen=True, slots=True)
class AllowFailure:
    """`allow_failure`: plain, or only for these exit codes (then `value` is false)."""

    value: bool = False
    exit_codes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Parallel:
    """`parallel: N`, or the rows of a `matrix`: the values of each variable. `total`: how many instances."""

    total: int
    rows: tuple[Mapping[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a job takes from `default` where it says nothing itself; None: not given."""

    before_script: tuple[str, ...] | None = None
    after_script: tuple[str, ...] | None = None
    image: Image | None = None
    services: tuple[Image, ...] | None = None
    cache: tuple[Cache, ...] | None = None
    artifacts: Artifacts | None = None
    interruptible: bool | None = None
    retry: Retry | None = None
    tags: tuple[str, ...] | None = None
    timeout_s: int | None = None
    hooks: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class JobConfig:
    """One visible job, with what it inherits already filled in."""

    name: str
    place: Place | None
    stage: str
    stage_place: Place | None
    script: tuple[str, ...]
    common: Defaults
    when: str | None = None
    start_in_s: int | None = None
    allow_failure: AllowFailure | None = None
    variables: tuple[Variable, ...] = ()
    inherit: Inherit = Inherit()
    rules: tuple[Rule, ...] | None = None
    needs: tuple[NeedConfig, ...] | None = None
    needs_place: Place | None = None
    dependencies: tuple[str, ...] | None = None
    dependencies_place: Place | None = None
    parallel: Parallel | None = None
    parallel_place: Place | None = None
    environment: Environment | None = None
    environment_place: Place | None = None
    coverage: str | None = None


@dataclass(frozen=True, slots=True)
class Workflow:
    """`workflow`: whether a pipeline is made at all, its name, and when it gives way."""

    rules: tuple[Rule, ...] | None = None
    name: str | None = None
    auto_cancel: AutoCancel = AutoCancel()


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """A whole configuration."""

    stages: tuple[str, ...]
    jobs: Mapping[str, JobConfig]
    variables: tuple[Variable, ...] = ()
    prefills: tuple[Prefill, ...] = ()
    workflow: Workflow = field(default_factory=Workflow)
