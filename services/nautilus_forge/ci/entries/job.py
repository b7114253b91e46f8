"""One job.

Source: lib/gitlab/ci/config/entry/{job,processable}.rb.
"""

from __future__ import annotations

from typing import Any

from nautilus_forge.ci.entries.checks import Fields, Problems, Spot, check_keys, is_text_list, read_script
from nautilus_forge.ci.entries.config import Inherit, JobConfig
from nautilus_forge.ci.entries.defaults import inherit, read_common
from nautilus_forge.ci.entries.keywords import JOB, JOB_VARIABLES
from nautilus_forge.ci.entries.needs import read_needs
from nautilus_forge.ci.entries.parallel import read_parallel
from nautilus_forge.ci.entries.rules import JOB_RULES, RuleReader, read_start_in
from nautilus_forge.ci.entries.settings import (
    read_allow_failure,
    read_coverage,
    read_environment,
    read_inherit,
)
from nautilus_forge.ci.entries.variables import read_variables
from nautilus_forge.ci.values import YamlMap, place_of

MAX_NAME_CHARS = 255
DEFAULT_STAGE = "test"
_WHEN = ("on_success", "on_failure", "always", "manual", "delayed")


class JobReader:
    """Reads the jobs of one configuration."""

    def __init__(self, problems: Problems, rules: RuleReader, defaults: dict[str, Any]) -> None:
        self._problems = problems
        self._rules = rules
        self._defaults = defaults

    def read(self, name: str, config: YamlMap, spot: Spot) -> JobConfig:
        """The job; where it has mistakes they are among the problems and the value is not to be used."""
        problems = self._problems
        fields = Fields(config, spot, problems)
        self._check(name, config, spot)
        own = read_common(config, spot, problems)
        rule = Inherit()
        if "inherit" in config:
            rule = read_inherit(config["inherit"], spot.key(config, "inherit"), problems)
        common = inherit(own, self._defaults, rule)
        when = fields.choice("when", _WHEN)
        rules = self._rules.read(config, spot, JOB_RULES) if "rules" in config else None
        return JobConfig(
            name=name,
            place=spot.place,
            stage=self._stage(config, spot),
            stage_place=place_of(config, "stage") or spot.place,
            script=self._script(config, spot),
            common=common,
            when=when,
            start_in_s=self._start_in(fields, when, has_rules=rules is not None),
            rules=rules,
            inherit=rule,
            **self._links(fields),
            **self._rarely(config, spot),
        )

    def _check(self, name: str, config: YamlMap, spot: Spot) -> None:
        problems = self._problems
        check_keys(config, JOB, spot, problems)
        if len(name) > MAX_NAME_CHARS:
            problems.add(
                f"{spot.where} name is too long (maximum is {MAX_NAME_CHARS} characters)", spot.place
            )
        extends = config.get("extends")
        if extends is not None and not isinstance(extends, str) and not is_text_list(extends):
            place = place_of(config, "extends") or spot.place
            problems.add(f"{spot.where} extends should be an array of strings or a string", place)
        if config.get("rules") is None:
            return
        clashing = [key for key in ("only", "except", "start_in") if config.get(key) is not None]
        if clashing:
            place = place_of(config, clashing[0]) or spot.place
            message = f"{spot.where} config key may not be used with `rules`: {', '.join(clashing)}"
            problems.add(message, place)

    def _script(self, config: YamlMap, spot: Spot) -> tuple[str, ...]:
        script = read_script(config.get("script"), spot.key(config, "script"), self._problems)
        if not config.get("script"):
            place = place_of(config, "script") or spot.place
            self._problems.add(f"{spot.where} script can't be blank", place)
        return script or ()

    def _stage(self, config: YamlMap, spot: Spot) -> str:
        stage = config.get("stage")
        if stage is None:
            return DEFAULT_STAGE
        if not isinstance(stage, str):
            at = spot.key(config, "stage")
            self._problems.add(f"{at.where} config should be a string", at.place)
            return DEFAULT_STAGE
        return stage

    def _start_in(self, fields: Fields, when: str | None, *, has_rules: bool) -> int | None:
        if when == "delayed" and not (has_rules and "start_in" not in fields.value):
            return read_start_in(fields)
        if fields.value.get("start_in") is not None and not has_rules:
            fields.fail("start_in", "must be blank")
        return None

    def _links(self, fields: Fields) -> dict[str, Any]:
        """What the job needs of others."""
        config, spot = fields.value, fields.spot
        found: dict[str, Any] = {}
        if "needs" in config:
            at = spot.key(config, "needs")
            found["needs"], found["needs_place"] = read_needs(config["needs"], at, self._problems), at.place
        if "dependencies" in config:
            found["dependencies"] = fields.texts("dependencies")
            found["dependencies_place"] = place_of(config, "dependencies") or spot.place
        if found.get("dependencies") and found.get("needs"):
            _check_dependencies(found["dependencies"], found["needs"], fields)
        return found

    def _rarely(self, config: YamlMap, spot: Spot) -> dict[str, Any]:
        """The keywords that few jobs have."""
        problems = self._problems
        found: dict[str, Any] = {}
        if "variables" in config:
            at = spot.key(config, "variables")
            found["variables"] = read_variables(config["variables"], at, problems, JOB_VARIABLES) or ()
        if "allow_failure" in config:
            at = spot.key(config, "allow_failure")
            found["allow_failure"] = read_allow_failure(config["allow_failure"], at, spot, problems)
        if "parallel" in config:
            at = spot.key(config, "parallel")
            found["parallel"] = read_parallel(config["parallel"], at, problems)
            found["parallel_place"] = at.place
        if "environment" in config:
            at = spot.key(config, "environment")
            found["environment"] = read_environment(config["environment"], at, problems)
            found["environment_place"] = at.place
        if "coverage" in config:
            found["coverage"] = read_coverage(
                config["coverage"], spot.key(config, "coverage"), problems, self._rules.patterns
            )
        return found


def _check_dependencies(dependencies: tuple[str, ...], needs: tuple[Any, ...], fields: Fields) -> None:
    needed = {need.job for need in needs}
    if missing := [name for name in dependencies if name not in needed]:
        fields.fail("dependencies", f"the {', '.join(missing)} should be part of needs")


def warn_of_many_pipelines(name: str, config: JobConfig, problems: Problems) -> None:
    """GitLab's warning of a last rule that always matches, where `workflow:rules` does not prevent it."""
    last = config.rules[-1] if config.rules else None
    if last is None or last.when in (None, "never"):
        return
    conditions = (last.condition, last.changes, last.exists, last.allow_failure, last.needs, last.start_in_s)
    if all(one is None for one in conditions) and not last.variables:
        docs = "https://docs.gitlab.com/ci/jobs/job_troubleshooting/#job-may-allow-multiple-pipelines-to-run"
        problems.warn(
            f"jobs:{name} may allow multiple pipelines to run for a single action due to `rules:when` clause "
            f"with no `workflow:rules` - read more: {docs}-for-a-single-action-warning"
        )
