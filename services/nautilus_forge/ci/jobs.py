"""From an instance of a job to the job that is created, in one context.

Source: lib/gitlab/ci/pipeline/seed/build.rb, lib/gitlab/ci/build/context/build.rb.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nautilus_forge.ci import predefined
from nautilus_forge.ci.budget import Budget
from nautilus_forge.ci.entries.checks import MAX_PROBLEMS
from nautilus_forge.ci.entries.config import AllowFailure, Inherit, JobConfig, Rule
from nautilus_forge.ci.instances import Instance, PlacedNeed
from nautilus_forge.ci.model import CompiledJob, ConfigError, Environment, Retry, Variable, When
from nautilus_forge.ci.rules import InvalidRule, RuleEvaluator
from nautilus_forge.ci.scalars import quote
from nautilus_forge.ci.values import error_at
from nautilus_forge.ci.variables import circles, expand_existing, expand_nested, merge, references

_NO_RULE = Rule()


class JobCompiler:
    """Compiles the jobs of one pipeline. `root_variables` are the pipeline-level ones."""

    def __init__(
        self,
        stages: Sequence[str],
        root_variables: tuple[Variable, ...],
        weaker: Mapping[str, str],
        stronger: Mapping[str, str],
        evaluator: RuleEvaluator,
        budget: Budget,
    ) -> None:
        self._stage_index = {stage: index for index, stage in enumerate(stages)}
        self._root = root_variables
        self._weaker = weaker
        self._stronger = stronger
        self._evaluator = evaluator
        self._budget = budget
        self._names: dict[str, list[str]] = {}
        self.errors: list[ConfigError] = []
        """What is wrong with jobs only in this context."""

    def compile(self, instance: Instance) -> CompiledJob | None:
        """The job; None where its rules keep it out. Raises `BudgetExhausted`."""
        config = instance.config
        variables = self._variables(instance)
        rule, number = _NO_RULE, -1
        if config.rules is not None:
            try:
                match = self._evaluator.first_match(
                    config.rules, self._known(instance, variables, config.environment)
                )
            except InvalidRule as error:
                self._fail(instance, f"Failed to parse rule for {instance.name}: {error}")
                return None
            if match is None:
                return None
            rule, number = match, config.rules.index(match) if instance.rule_needs else -1
        when = rule.when or config.when or When.ON_SUCCESS.value
        if when == "never":
            return None
        self._check_circles(instance, variables)
        if rule.variables:
            variables = merge(variables, rule.variables)
        needs = instance.needs
        if number >= 0 and instance.rule_needs[number] is not None:
            needs = instance.rule_needs[number]
        return self._job(instance, rule, When(when), variables, needs)

    def compile_without_rules(self, instance: Instance) -> CompiledJob:
        """The job as it would be if it had no rules."""
        when = When(instance.config.when or When.ON_SUCCESS.value)
        return self._job(instance, _NO_RULE, when, self._variables(instance), instance.needs)

    def _job(
        self,
        instance: Instance,
        rule: Rule,
        when: When,
        variables: tuple[Variable, ...],
        needs: tuple[PlacedNeed, ...] | None,
    ) -> CompiledJob:
        config, common = instance.config, instance.config.common
        allow_failure = _allow_failure(config, rule)
        interruptible = common.interruptible if rule.interruptible is None else rule.interruptible
        environment, tags = self._expanded(instance, variables)
        is_delayed = when is When.DELAYED
        return CompiledJob(
            name=instance.name,
            stage=config.stage,
            stage_idx=self._stage_index[config.stage],
            script=config.script,
            before_script=common.before_script or (),
            after_script=common.after_script or (),
            when=when,
            start_in_s=(rule.start_in_s or config.start_in_s) if is_delayed else None,
            allow_failure=allow_failure.value,
            allow_failure_exit_codes=allow_failure.exit_codes,
            tags=tags,
            variables=variables,
            image=common.image,
            services=common.services or (),
            needs=None if needs is None else tuple(placed.need for placed in needs),
            dependencies=instance.dependencies,
            artifacts=common.artifacts,
            cache=common.cache or (),
            retry=common.retry or Retry(),
            timeout_s=common.timeout_s,
            interruptible=bool(interruptible),
            environment=environment,
            coverage=config.coverage,
            hooks_pre_get_sources=common.hooks or (),
            parallel_index=instance.index,
            parallel_total=instance.total,
        )

    def _variables(self, instance: Instance) -> tuple[Variable, ...]:
        config = instance.config
        self._budget.spend((len(self._root) + len(config.variables)) // 8)
        inherited = _inherited(self._root, config.inherit)
        if not instance.matrix:
            return merge(inherited, config.variables) if config.variables else inherited
        matrix = [Variable(key, value) for key, value in instance.matrix.items()]
        return merge(inherited, config.variables, matrix)

    def _fail(self, instance: Instance, message: str) -> None:
        if len(self.errors) < MAX_PROBLEMS:
            self.errors.append(error_at(message, instance.config.place))

    def _check_circles(self, instance: Instance, variables: tuple[Variable, ...]) -> None:
        """Variables of the file that need one another have no value."""
        referring = {
            variable.key: variable.value
            for variable in variables
            if ("$" in variable.value or "%" in variable.value)
            and not variable.raw
            and variable.key not in self._stronger
        }
        self._budget.spend(len(variables) // 8 + len(referring))
        needed = {}
        for key, value in referring.items():
            names = self._names.get(value)
            if names is None:
                self._budget.spend(len(value) // 20)
                names = self._names[value] = references(value)
            if others := [name for name in names if name in referring and name != key]:
                needed[key] = others
        self._budget.spend(4 * len(needed))
        found = circles(needed) if len(needed) > 1 else []
        if found:
            named = ", ".join(quote(group) for group in found)
            self._fail(instance, f"{instance.name}: circular variable reference detected: {named}")

    def _expanded(
        self, instance: Instance, variables: tuple[Variable, ...]
    ) -> tuple[Environment | None, tuple[str, ...]]:
        """Environment and tags with the variables in them replaced."""
        environment, tags = instance.config.environment, instance.config.common.tags or ()
        if not any("$" in tag or "%" in tag for tag in tags) and (
            environment is None or "$" not in environment.name
        ):
            return environment, tags
        raw = [variable.key for variable in variables if variable.raw]
        if environment is not None and "$" in environment.name:
            known = self._known(instance, variables, None)
            environment = replace(environment, name=expand_nested(environment.name, known, raw, self._budget))
        self._budget.spend(10 * len(tags))
        known = self._known(instance, variables, environment)
        return environment, tuple(expand_existing(tag, known) for tag in tags)

    def _known(
        self, instance: Instance, variables: tuple[Variable, ...], environment: Environment | None
    ) -> dict[str, str]:
        """What the rules of the job see, strongest last."""
        config = instance.config
        seeds = predefined.seed_variables(
            instance.name,
            config.stage,
            when=When(config.when) if config.when else When.ON_SUCCESS,
            parallel_index=instance.index,
            parallel_total=instance.total,
            environment=environment,
        )
        self._budget.spend((len(variables) + len(self._weaker) + len(self._stronger)) // 8)
        known = dict(self._weaker)
        for variable in seeds:
            known[variable.key] = variable.value
        for variable in variables:
            known[variable.key] = variable.value
        known.update(self._stronger)
        return known


def _inherited(root: tuple[Variable, ...], inherit: Inherit) -> tuple[Variable, ...]:
    rule = inherit.variables
    if isinstance(rule, bool):
        return root if rule else ()
    return tuple(variable for variable in root if variable.key in rule)


def _allow_failure(config: JobConfig, rule: Rule) -> AllowFailure:
    """A manual job may fail unless something else is said; a rule's word replaces the job's."""
    if rule.allow_failure is not None:
        return AllowFailure(rule.allow_failure)
    if config.allow_failure is not None:
        return config.allow_failure
    return AllowFailure(config.when == "manual")
