"""How jobs hang together: stages, `needs`, `dependencies`, `on_stop`.

Source: lib/gitlab/ci/yaml_processor.rb (run_logical_validations!), yaml_processor/dag.rb.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from nautilus_forge.ci.entries.checks import Problems
from nautilus_forge.ci.instances import Instance, PlacedNeed
from nautilus_forge.ci.values import Place


def check(instances: Mapping[str, Instance], stages: Sequence[str], problems: Problems) -> None:
    """Add what is wrong between the jobs."""
    checker = _Checker(instances, stages, problems)
    for instance in instances.values():
        if problems.is_full:
            return
        checker.check(instance)
    if not problems.errors:
        _check_circles(instances, problems)


class _Checker:
    def __init__(self, instances: Mapping[str, Instance], stages: Sequence[str], problems: Problems) -> None:
        self._instances = instances
        self._stages = stages
        self._index = {stage: index for index, stage in enumerate(stages)}
        self._problems = problems

    def check(self, instance: Instance) -> None:
        config = instance.config
        if config.stage not in self._index:
            self._problems.add(
                f"{instance.name} job: chosen stage {config.stage} does not exist; "
                f"available stages are {', '.join(self._stages)}",
                config.stage_place,
            )
        for name in instance.dependencies or ():
            self._check_link(instance, name, "dependency", config.dependencies_place)
        for needs in (instance.needs, *instance.rule_needs):
            if needs is not None:
                self._check_needs(instance, needs)
        if config.environment is not None and config.environment.on_stop is not None:
            self._check_on_stop(instance, config.environment.on_stop)

    def _check_needs(self, instance: Instance, needs: tuple[PlacedNeed, ...]) -> None:
        for placed in needs:
            self._check_link(
                instance, placed.need.job, "need", placed.place, is_optional=placed.need.optional
            )
        counts = Counter(placed.need.job for placed in needs)
        if duplicated := [name for name, count in counts.items() if count > 1]:
            self._problems.add(
                f"{instance.name} has the following needs duplicated: {', '.join(duplicated)}.",
                instance.config.needs_place,
            )

    def _check_link(
        self, instance: Instance, name: str, kind: str, place: Place | None, *, is_optional: bool = False
    ) -> None:
        other = self._instances.get(name)
        if other is None:
            if not is_optional:
                self._problems.add(f"{instance.name} job: undefined {kind}: {name}", place)
            return
        own, others = self._index.get(instance.config.stage), self._index.get(other.config.stage)
        if own is not None and (others is None or others > own):
            message = f"{instance.name} job: {kind} {name} is not defined in current or prior stages"
            self._problems.add(message, place)

    def _check_on_stop(self, instance: Instance, name: str) -> None:
        start = instance.config.environment
        other = self._instances.get(name)
        stop = other.config.environment if other is not None else None
        if other is None:
            problem = "is not defined"
        elif stop is None:
            problem = "does not have environment defined"
        elif start is not None and stop.name != start.name:
            problem = "have different environment name"
        elif stop.action != "stop":
            problem = "needs to have action stop defined"
        else:
            return
        message = f"{instance.name} job: on_stop job {name} {problem}"
        self._problems.add(message, instance.config.environment_place)


def _check_circles(instances: Mapping[str, Instance], problems: Problems) -> None:
    circle = _circle(instances)
    if circle:
        place = instances[circle[0]].config.needs_place
        problems.add(f"The pipeline has circular dependencies: {' -> '.join(circle)}", place)


def _circle(instances: Mapping[str, Instance]) -> list[str]:
    """The names around one circle of needs, the first one repeated at the end; empty where there is none."""
    state: dict[str, int] = {}
    for root in instances:
        if root in state:
            continue
        path: list[str] = []
        pending: list[tuple[str, bool]] = [(root, False)]
        while pending:
            name, is_done = pending.pop()
            if is_done:
                state[path.pop()] = 2
                continue
            if name in state:
                continue
            state[name] = 1
            path.append(name)
            pending.append((name, True))
            for placed in instances[name].needs or ():
                other = placed.need.job
                if state.get(other) == 1:
                    return [*path[path.index(other) :], other]
                if other in instances and other not in state:
                    pending.append((other, False))
    return []
