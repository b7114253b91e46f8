"""Checking a configuration without making a pipeline: `POST /projects/:id/ci/lint`.

Source: lib/gitlab/ci/lint.rb, lib/api/lint.rb, doc/api/lint.md.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nautilus_forge.ci import compiler, extends, reference
from nautilus_forge.ci.budget import Budget, BudgetExhausted
from nautilus_forge.ci.entries.checks import Problems
from nautilus_forge.ci.include import Includer
from nautilus_forge.ci.jobs import JobCompiler
from nautilus_forge.ci.merging import MERGE_UNITS
from nautilus_forge.ci.model import (
    CiConfigError,
    CompiledJob,
    ConfigError,
    Context,
    IncludedFile,
    NoPipeline,
)
from nautilus_forge.ci.rules import RuleEvaluator
from nautilus_forge.ci.scalars import quote
from nautilus_forge.ci.values import Reference


@dataclass(frozen=True)
class LintResult:
    """What a check found. `merged_yaml`: None where the text could not even be read."""

    valid: bool
    errors: tuple[ConfigError, ...] = ()
    warnings: tuple[str, ...] = ()
    merged_yaml: str | None = None
    jobs: tuple[CompiledJob, ...] = ()
    includes: tuple[IncludedFile, ...] = ()

    def as_json(self, *, include_jobs: bool = False) -> dict[str, Any]:
        """The body that GitLab's API answers with (`includes` without links)."""
        body: dict[str, Any] = {
            "valid": self.valid,
            "errors": [error.message for error in self.errors],
            "warnings": list(self.warnings),
            "merged_yaml": self.merged_yaml,
            "includes": [
                {
                    "type": file.type,
                    "location": file.location,
                    "blob": None,
                    "raw": None,
                    "extra": {"project": file.project, "ref": file.ref} if file.type == "file" else {},
                }
                for file in self.includes
            ],
        }
        if include_jobs:
            body["jobs"] = [_job_json(job) for job in self.jobs]
        return body


def lint(text: str, context: Context, *, dry_run: bool = False) -> LintResult:
    """Check a configuration. `dry_run`: as a pipeline in this context would be made, rules and all."""
    merged = _merged(text, context)
    merged_yaml = None if merged is None else dump(merged)
    try:
        checked = compiler.check_config(text, context)
        if dry_run:
            jobs: Sequence[CompiledJob] = compiler.compile_checked(checked, context).jobs
        else:
            jobs = _all_jobs(checked, context)
    except CiConfigError as error:
        return LintResult(False, error.errors, merged_yaml=merged_yaml)
    except (NoPipeline, BudgetExhausted) as error:
        return LintResult(False, (ConfigError(str(error), file=context.file),), merged_yaml=merged_yaml)
    return LintResult(True, (), checked.warnings, merged_yaml, tuple(jobs), checked.includes)


def dump(value: Any) -> str:
    """The value as YAML, with aliases written out."""
    yaml: Any = importlib.import_module("yaml")
    base: Any = yaml.CSafeDumper if yaml.__with_libyaml__ else yaml.SafeDumper
    dumper = type("Dumper", (base,), {"ignore_aliases": lambda self, data: True})
    text: str = yaml.dump(
        _plain(value), Dumper=dumper, sort_keys=False, explicit_start=True, allow_unicode=True, width=10_000
    )
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return f"!reference {quote(list(value.path))}" if isinstance(value, Reference) else value


def _merged(text: str, context: Context) -> Any:
    """The merged configuration, as far as it can be had."""
    budget, merges = Budget(), Budget(MERGE_UNITS)
    merged: Any = None
    try:
        includer = Includer(context, budget, merges, Problems(context.file))
        merged = includer.load_main(text)
        merged = reference.resolve(merged) if includer.has_references else merged
        return extends.resolve(merged, merges)
    except (CiConfigError, BudgetExhausted):
        return merged


def _all_jobs(checked: compiler.CheckedConfig, context: Context) -> list[CompiledJob]:
    """Every job as if it had no rules: GitLab's static check lists them all."""
    config = checked.config
    budget = Budget()
    evaluator = RuleEvaluator(None, frozenset(), budget)
    compile_ = JobCompiler(
        config.stages, config.variables, context.predefined, context.variables, evaluator, budget
    )
    jobs = [compile_.compile_without_rules(instance) for instance in checked.instances.values()]
    return sorted(jobs, key=lambda job: job.stage_idx)


def _job_json(job: CompiledJob) -> dict[str, Any]:
    return {
        "name": job.name,
        "stage": job.stage,
        "before_script": list(job.before_script),
        "script": list(job.script),
        "after_script": list(job.after_script),
        "tag_list": list(job.tags),
        "environment": job.environment.name if job.environment else None,
        "when": job.when.value,
        "allow_failure": job.allow_failure,
        "needs": None
        if job.needs is None
        else [{"name": n.job, "artifacts": n.artifacts} for n in job.needs],
        "only": None,
        "except": None,
    }
