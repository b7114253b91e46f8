"""A whole configuration: which keys are keywords and which are jobs.

Source: lib/gitlab/ci/config/entry/{root,jobs,hidden,stages,workflow}.rb, config/edge_stages_injector.rb.
"""

from __future__ import annotations

from typing import Any

from nautilus_forge.ci.entries.checks import Fields, Problems, Spot, check_keys, is_text_list
from nautilus_forge.ci.entries.config import AutoCancel, JobConfig, PipelineConfig, Workflow
from nautilus_forge.ci.entries.defaults import read_defaults
from nautilus_forge.ci.entries.job import JobReader, warn_of_many_pipelines
from nautilus_forge.ci.entries.keywords import ROOT, VARIABLES, WORKFLOW
from nautilus_forge.ci.entries.rules import WORKFLOW_RULES, RuleReader, read_auto_cancel
from nautilus_forge.ci.entries.variables import prefills, read_variables
from nautilus_forge.ci.expression import Patterns
from nautilus_forge.ci.scalars import to_text
from nautilus_forge.ci.values import YamlMap, place_of

DEFAULT_STAGES = ("build", "test", "deploy")
EDGE_STAGES = (".pre", ".post")


def read_config(config: YamlMap, problems: Problems, patterns: Patterns) -> PipelineConfig:
    """The configuration; where there are problems it is not to be used."""
    rules = RuleReader(problems, patterns)
    variables = read_variables(
        config.get("variables"), Spot("variables", place_of(config, "variables")), problems, VARIABLES
    )
    workflow = _workflow(config, problems, rules)
    stages = _stages(config, problems)
    reader = JobReader(problems, rules, read_defaults(config, problems))
    jobs = _jobs(config, problems, reader)
    if workflow.rules is None:
        for name, job in jobs.items():
            warn_of_many_pipelines(name, job, problems)
    return PipelineConfig(stages, jobs, variables or (), prefills(config.get("variables")), workflow)


def _stages(config: YamlMap, problems: Problems) -> tuple[str, ...]:
    stages = config.get("stages")
    if stages is None or stages == []:
        stages = list(DEFAULT_STAGES)
    if not is_text_list(stages):
        problems.add("stages config should be an array of strings", place_of(config, "stages"))
        stages = list(DEFAULT_STAGES)
    inner = dict.fromkeys(stage for stage in stages if stage not in EDGE_STAGES)
    return (EDGE_STAGES[0], *inner, EDGE_STAGES[1])


def _workflow(config: YamlMap, problems: Problems, rules: RuleReader) -> Workflow:
    value = config.get("workflow")
    spot = Spot("workflow", place_of(config, "workflow"))
    if value is None:
        return Workflow()
    if not isinstance(value, dict):
        problems.add("workflow config should be a hash", spot.place)
        return Workflow()
    check_keys(value, WORKFLOW, spot, problems)
    fields = Fields(value, spot, problems)
    name = fields.text("name")
    if name is not None and len(name) > 255:
        fields.fail("name", "is too long (maximum is 255 characters)")
    auto_cancel = read_auto_cancel(value.get("auto_cancel"), spot.key(value, "auto_cancel"), problems)
    return Workflow(rules.read(value, spot, WORKFLOW_RULES), name, auto_cancel or AutoCancel())


def _jobs(config: YamlMap, problems: Problems, reader: JobReader) -> dict[str, JobConfig]:
    jobs: dict[str, JobConfig] = {}
    has_visible_job = False
    for key in ROOT.strays(config)[0]:
        value = config[key]
        if problems.is_full:
            break
        spot = Spot(f"jobs:{to_text(key)}", place_of(config, key))
        if isinstance(key, str) and key.startswith("."):
            if value is None or value == {} or value == []:
                problems.add(f"{spot.where} config can't be blank", spot.place)
            continue
        if isinstance(value, YamlMap) and ("script" in value or "trigger" in value or "run" in value):
            has_visible_job = True
        else:
            _not_a_job(key, spot, problems)
            continue
        if _check_name(key, spot, problems):
            jobs[key] = _job(key, value, spot, problems, reader)
    if not has_visible_job:
        problems.add("jobs config should contain at least one visible job", None)
    return jobs


def _job(name: str, value: YamlMap, spot: Spot, problems: Problems, reader: JobReader) -> JobConfig:
    if name == "pages" and value.get("pages") is not False:
        problems.warn("jobs:pages publishes nothing: Pages are not supported by this server yet")
    if "script" not in value:  # a trigger or steps, which are refused by name
        value = value.duplicate()
        value["script"] = ["true"]
    return reader.read(name, value, spot)


def _not_a_job(key: Any, spot: Spot, problems: Problems) -> None:
    problems.add(
        f"jobs {to_text(key)} config should implement the script:, run:, or trigger: keyword", spot.place
    )


def _check_name(key: Any, spot: Spot, problems: Problems) -> bool:
    if not isinstance(key, str):
        problems.add(f"{spot.where} name should be a symbol", spot.place)
        return False
    if not key.strip():
        problems.add("jobs:job name can't be blank", spot.place)
        return False
    return True
