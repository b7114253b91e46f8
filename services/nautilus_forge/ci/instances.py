"""Jobs multiplied by `parallel`, with GitLab's names: `rspec 1/3`, `deploy: [eu, blue]`.

Source: lib/gitlab/ci/config/normalizer.rb, normalizer/{matrix,number}_strategy.rb,
interpolation/matrix_interpolator.rb.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nautilus_forge.ci.budget import Budget
from nautilus_forge.ci.entries.checks import Problems
from nautilus_forge.ci.entries.config import JobConfig, NeedConfig
from nautilus_forge.ci.entries.parallel import instances as matrix_instances
from nautilus_forge.ci.model import CiConfigError, ConfigError, Need
from nautilus_forge.ci.values import Place

MAX_JOBS = 5_000


@dataclass(frozen=True, slots=True)
class PlacedNeed:
    """One needed instance, and where it is asked for."""

    need: Need
    place: Place | None


@dataclass(frozen=True, slots=True)
class Instance:
    """One job as it would be created; `needs` and `dependencies` name instances."""

    name: str
    config: JobConfig
    index: int | None = None
    total: int | None = None
    matrix: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[PlacedNeed, ...] | None = None
    rule_needs: tuple[tuple[PlacedNeed, ...] | None, ...] = ()
    dependencies: tuple[str, ...] | None = None


def multiply(jobs: Mapping[str, JobConfig], problems: Problems, budget: Budget) -> dict[str, Instance]:
    """All instances by name, in the order of the file. What is wrong with their needs joins the problems.

    Raises `CiConfigError` where there would be too many, `BudgetExhausted`.
    """
    total = sum(config.parallel.total if config.parallel else 1 for config in jobs.values())
    if total > MAX_JOBS:
        message = (
            f"The number of jobs has exceeded the limit of {MAX_JOBS}. "
            "Try splitting the configuration with parent-child-pipelines"
        )
        raise CiConfigError([ConfigError(message)])
    plain = {name: _plain(config) for name, config in jobs.items()}
    names = {
        name: [instance.name for instance in made] for name, made in plain.items() if jobs[name].parallel
    }
    linker = _Linker(names, problems, budget)
    return {
        instance.name: linker.link(instance) if _has_links(instance.config) else instance
        for made in plain.values()
        for instance in made
    }


def _has_links(config: JobConfig) -> bool:
    return (
        config.needs is not None
        or config.dependencies is not None
        or any(rule.needs is not None for rule in config.rules or ())
    )


def _plain(config: JobConfig) -> list[Instance]:
    parallel = config.parallel
    if parallel is None:
        return [Instance(config.name, config)]
    total = parallel.total
    if not parallel.rows:
        return [Instance(f"{config.name} {i}/{total}", config, i, total) for i in range(1, total + 1)]
    return [
        Instance(_matrix_name(config.name, row), config, i, total, row)
        for i, row in enumerate(matrix_instances(parallel.rows), start=1)
    ]


def _matrix_name(name: str, row: Mapping[str, str]) -> str:
    return f"{name}: [{', '.join(row.values())}]"


class _Linker:
    """Turns the names of jobs in `needs` and `dependencies` into names of instances."""

    def __init__(self, names: Mapping[str, list[str]], problems: Problems, budget: Budget) -> None:
        self._names = names
        self._problems = problems
        self._budget = budget

    def link(self, instance: Instance) -> Instance:
        config = instance.config
        rules = config.rules or ()
        has_rule_needs = any(rule.needs is not None for rule in rules)
        return Instance(
            instance.name,
            config,
            instance.index,
            instance.total,
            instance.matrix,
            needs=self._needs(config.needs, instance),
            rule_needs=tuple(self._needs(rule.needs, instance) for rule in rules) if has_rule_needs else (),
            dependencies=self._dependencies(config.dependencies),
        )

    def _dependencies(self, names: Sequence[str] | None) -> tuple[str, ...] | None:
        if names is None:
            return None
        linked = tuple(found for name in names for found in self._names.get(name, [name]))
        self._budget.spend(len(linked))
        return linked

    def _needs(self, needs: Sequence[NeedConfig] | None, instance: Instance) -> tuple[PlacedNeed, ...] | None:
        if needs is None:
            return None
        linked: list[PlacedNeed] = []
        for need in needs:
            names = self._needed(need, instance)
            self._budget.spend(3 * len(names))
            linked += [PlacedNeed(Need(name, need.artifacts, need.optional), need.place) for name in names]
        return tuple(linked)

    def _needed(self, need: NeedConfig, instance: Instance) -> list[str]:
        job = self._filled(need.job, instance, need.place)
        if need.matrix is None or job not in self._names:
            return self._names.get(job, [job])
        rows = tuple(
            {
                key: tuple(self._filled(value, instance, need.place) for value in values)
                for key, values in row.items()
            }
            for row in need.matrix
        )
        return [_matrix_name(job, row) for row in matrix_instances(rows)]

    def _filled(self, text: str, instance: Instance, place: Place | None) -> str:
        """`$[[ matrix.NAME ]]` replaced by the value that this instance has."""
        at, parts = 0, []
        while (start := text.find("$[[", at)) >= 0 and (end := text.find("]]", start)) >= 0:
            name = text[start + 3 : end].strip()
            parts.append(text[at:start])
            key = name.removeprefix("matrix.")
            if key == name:
                parts.append(text[start : end + 2])
            elif key in instance.matrix:
                parts.append(instance.matrix[key])
            else:
                parts.append(text[start : end + 2])
                self._problems.add(
                    f"{instance.config.name} job: '{key}' does not exist in matrix configuration", place
                )
            at = end + 2
        return "".join([*parts, text[at:]]) if parts else text
