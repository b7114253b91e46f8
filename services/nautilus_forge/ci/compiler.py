"""`.gitlab-ci.yml` and a context in, a pipeline out; pure.

The way of a text: YAML to values (`document`), inputs filled in (`inputs`), other files laid under it (`include`),
references and `extends` carried out, every keyword checked (`entries`), jobs multiplied (`instances`), their links
checked (`graph`), rules asked (`rules`, `jobs`).

Source: lib/gitlab/ci/yaml_processor.rb, lib/gitlab/ci/config.rb, lib/gitlab/ci/pipeline/chain/*.rb.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from nautilus_forge.ci import extends, graph, reference
from nautilus_forge.ci.budget import Budget, BudgetExhausted
from nautilus_forge.ci.entries.checks import Problems
from nautilus_forge.ci.entries.config import PipelineConfig, Rule
from nautilus_forge.ci.entries.root import EDGE_STAGES, read_config
from nautilus_forge.ci.expression import Patterns
from nautilus_forge.ci.include import Includer
from nautilus_forge.ci.instances import Instance, multiply
from nautilus_forge.ci.jobs import JobCompiler
from nautilus_forge.ci.merging import MERGE_UNITS
from nautilus_forge.ci.model import (
    CiConfigError,
    CompiledJob,
    CompiledPipeline,
    ConfigError,
    Context,
    IncludedFile,
    NoPipeline,
    Variable,
)
from nautilus_forge.ci.rules import InvalidRule, RuleEvaluator
from nautilus_forge.ci.values import YamlMap, error_at
from nautilus_forge.ci.variables import expand_nested, merge

MAX_NEEDS = 50
FILTERED_OUT = "Pipeline filtered out by workflow rules."
NO_JOBS = (
    "Pipeline will not run for the selected trigger. "
    "The rules configuration prevented any jobs from being added to the pipeline."
)


@dataclass(frozen=True)
class CheckedConfig:
    """A configuration without mistakes, not yet seen in the light of its rules."""

    merged: YamlMap
    config: PipelineConfig
    instances: Mapping[str, Instance]
    includes: tuple[IncludedFile, ...]
    warnings: tuple[str, ...]


def compile_pipeline(text: str, context: Context) -> CompiledPipeline:
    """The pipeline that the text makes in the context.

    Raises `CiConfigError` with every mistake found, `NoPipeline` where rules say that there is none. No other
    error, whatever the text.
    """
    budget = Budget()
    try:
        return compile_checked(_check(text, context, budget), context, budget)
    except BudgetExhausted as error:
        raise CiConfigError([ConfigError(str(error), file=context.file)]) from error


def check_config(text: str, context: Context) -> CheckedConfig:
    """The configuration with all of its jobs, whatever their rules say. Raises `CiConfigError`."""
    try:
        return _check(text, context, Budget())
    except BudgetExhausted as error:
        raise CiConfigError([ConfigError(str(error), file=context.file)]) from error


def merge_config(text: str, context: Context, budget: Budget, problems: Problems) -> tuple[YamlMap, Includer]:
    """The one configuration that the text and its includes make, `extends` carried out.

    Raises `CiConfigError`, `BudgetExhausted`.
    """
    merges = Budget(MERGE_UNITS)
    includer = Includer(context, budget, merges, problems)
    merged = includer.load_main(text)
    if includer.has_references:
        merged = reference.resolve(merged)
    return extends.resolve(merged, merges), includer


def _check(text: str, context: Context, budget: Budget) -> CheckedConfig:
    problems = Problems(context.file)
    merged, includer = merge_config(text, context, budget, problems)
    config = read_config(merged, problems, Patterns(budget))
    if problems.errors:
        raise CiConfigError(problems.errors)
    instances = multiply(config.jobs, problems, budget)
    graph.check(instances, config.stages, problems)
    if problems.errors:
        raise CiConfigError(problems.errors)
    return CheckedConfig(merged, config, instances, tuple(includer.files), tuple(problems.warnings))


def compile_checked(
    checked: CheckedConfig, context: Context, budget: Budget | None = None
) -> CompiledPipeline:
    """The pipeline of a checked configuration. Raises as `compile_pipeline`, and `BudgetExhausted`."""
    budget = budget or Budget()
    config = checked.config
    evaluator = RuleEvaluator(context.changed_paths, context.existing_paths, budget, context.changed_since)
    known = {**context.predefined, **_values(config.variables), **context.variables}
    matched = Rule()
    if config.workflow.rules is not None:
        try:
            found = evaluator.first_match(config.workflow.rules, known)
        except InvalidRule as error:
            message = f"Failed to parse rule for workflow: {error}"
            raise CiConfigError([ConfigError(message, file=context.file)]) from error
        if found is None or found.when == "never":
            raise NoPipeline(FILTERED_OUT)
        matched = found
    variables = merge(config.variables, matched.variables)
    known = {**context.predefined, **_values(variables), **context.variables}
    instances = _selectable(checked, context)
    compiler = JobCompiler(config.stages, variables, context.predefined, context.variables, evaluator, budget)
    made = [job for job in map(compiler.compile, instances) if job is not None]
    if compiler.errors:
        raise CiConfigError(compiler.errors)
    if all(job.stage in EDGE_STAGES for job in made):
        raise NoPipeline(NO_JOBS)
    jobs = _linked(made, checked.instances)
    cancel, default = matched.auto_cancel, config.workflow.auto_cancel
    name = config.workflow.name
    return CompiledPipeline(
        stages=config.stages,
        jobs=tuple(sorted(jobs, key=lambda job: job.stage_idx)),
        variables=variables,
        name=(expand_nested(name, known).strip() or None) if name else None,
        warnings=checked.warnings,
        auto_cancel_on_new_commit=(cancel and cancel.on_new_commit)
        or default.on_new_commit
        or "conservative",
        auto_cancel_on_job_failure=(cancel and cancel.on_job_failure) or default.on_job_failure or "none",
        prefills=config.prefills,
        includes=checked.includes,
    )


def _selectable(checked: CheckedConfig, context: Context) -> list[Instance]:
    """The jobs that this kind of pipeline may have. Without `workflow:rules`, a job without `rules` is for branches
    and tags alone. Source: lib/gitlab/ci/config/entry/processable.rb (`only` defaults to branches and tags).
    """
    instances = list(checked.instances.values())
    if context.source != "merge_request_event" or checked.config.workflow.rules is not None:
        return instances
    return [instance for instance in instances if instance.config.rules is not None]


def _values(variables: tuple[Variable, ...]) -> dict[str, str]:
    return {variable.key: variable.value for variable in variables}


def _linked(jobs: list[CompiledJob], instances: Mapping[str, Instance]) -> list[CompiledJob]:
    """The jobs with needs and dependencies only of jobs that are in the pipeline. Raises `CiConfigError`."""
    present = {job.name for job in jobs}
    errors: list[ConfigError] = []
    linked: list[CompiledJob] = []
    for job in jobs:
        needs, dependencies = job.needs, job.dependencies
        if needs:
            errors += _needs_errors(job, present, instances[job.name])
            needs = tuple(need for need in needs if need.job in present)
        if dependencies:
            dependencies = tuple(name for name in dependencies if name in present)
        is_same = needs == job.needs and dependencies == job.dependencies
        linked.append(job if is_same else replace(job, needs=needs, dependencies=dependencies))
    if errors:
        raise CiConfigError(errors)
    return linked


def _needs_errors(job: CompiledJob, present: set[str], instance: Instance) -> list[ConfigError]:
    place = instance.config.needs_place
    needs = job.needs or ()
    if len(needs) > MAX_NEEDS:
        message = (
            f"{job.name}: one job can only need {MAX_NEEDS} others, but you have listed {len(needs)}. "
            "See needs keyword documentation for more details"
        )
        return [error_at(message, place)]
    return [
        error_at(
            f"'{job.name}' job needs '{need.job}' job, but '{need.job}' does not exist in the pipeline. "
            "This might be because of the only, except, or rules keywords. "
            "To need a job that sometimes does not exist in the pipeline, use needs:optional.",
            place,
        )
        for need in needs
        if need.job not in present and not need.optional
    ]
