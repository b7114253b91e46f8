"""SQL of the experiments: lists with filters and an order, and what is still open."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from nautilus.core.params import NAME
from nautilus.core.states import ExperimentState
from nautilus.db.models.experiment import Experiment
from nautilus.errors import InvalidRequest, NotFound
from nautilus.experiments.ports import Tracking

_COLUMNS = (
    "id",
    "name",
    "state",
    "created_at",
    "started_at",
    "finished_at",
    "seed",
    "project_id",
    "username",
)
_BY_VALUE = re.compile(r"(params|metrics)\.([^\x00]{1,250})", re.DOTALL)


@dataclass(frozen=True)
class Filter:
    """Which experiments: `project_ids` None means every project; `states` empty means every state."""

    project_ids: Collection[int] | None = None
    states: Sequence[ExperimentState] = ()
    sweep_id: int | None = None


@dataclass(frozen=True)
class Order:
    """By a column, `duration`, `params.<name>` or `metrics.<key>`; what has no value comes last."""

    by: str = "created_at"
    is_descending: bool = True


async def list_experiments(
    session: AsyncSession, tracking: Tracking, chosen: Filter, order: Order, *, limit: int, offset: int
) -> tuple[list[Experiment], int]:
    """A page and how many there are in all. Raises InvalidRequest for an order that is not known."""
    found = _filtered(select(Experiment), chosen)
    total = await session.scalar(_filtered(select(func.count()).select_from(Experiment), chosen))
    for expression in _ordering(tracking, order):
        found = found.order_by(expression)
    rows = await session.scalars(found.limit(limit).offset(offset))
    return list(rows), int(total or 0)


async def find_experiment(
    session: AsyncSession, experiment_id: int, *, for_update: bool = False
) -> Experiment:
    """Raises NotFound."""
    found = await session.get(Experiment, experiment_id, with_for_update=True if for_update else None)
    if found is None:
        raise no_such(experiment_id)
    return found


async def id_of_run(session: AsyncSession, mlflow_run_id: str) -> int | None:
    """The experiment that is this MLflow run."""
    return await session.scalar(select(Experiment.id).where(Experiment.mlflow_run_id == mlflow_run_id))


async def open_experiments(session: AsyncSession, limit: int) -> list[Experiment]:
    """Those with something left to do, oldest first; without what may be long (read it by
    `find_experiment`)."""
    heavy = [
        defer(column, raiseload=True) for column in (Experiment.command, Experiment.params, Experiment.env)
    ]
    rows = await session.scalars(
        select(Experiment)
        .where(Experiment.closed_at.is_(None))
        .order_by(Experiment.id)
        .limit(limit)
        .options(*heavy)
    )
    return list(rows)


def no_such(experiment_id: int) -> NotFound:
    return NotFound(f"there is no experiment {experiment_id}, or you may not see it")


def _filtered(statement: Select[Any], chosen: Filter) -> Select[Any]:
    if chosen.project_ids is not None:
        statement = statement.where(Experiment.project_id.in_(chosen.project_ids))
    if chosen.states:
        statement = statement.where(Experiment.state.in_([str(state) for state in chosen.states]))
    if chosen.sweep_id is not None:
        statement = statement.where(Experiment.sweep_id == chosen.sweep_id)
    return statement


def _ordering(tracking: Tracking, order: Order) -> list[ColumnElement[Any]]:
    expressions = _expressions(tracking, order.by)
    chosen = [(e.desc() if order.is_descending else e.asc()).nulls_last() for e in expressions]
    return [*chosen, Experiment.id.desc() if order.is_descending else Experiment.id.asc()]


def _expressions(tracking: Tracking, by: str) -> list[ColumnElement[Any]]:
    if by in _COLUMNS:
        return [Experiment.__table__.columns[by]]
    if by in ("duration", "duration_s"):
        return [func.coalesce(Experiment.finished_at, func.now()) - Experiment.started_at]
    match = _BY_VALUE.fullmatch(by)
    if match and match[1] == "metrics":
        return [tracking.last_metric_value(Experiment.__table__.columns.mlflow_run_id, match[2])]
    if match and NAME.fullmatch(match[2]):
        value: ColumnElement[Any] = Experiment.__table__.columns.params[match[2]]
        is_number = func.jsonb_typeof(value) == "number"
        return [
            case((is_number, Experiment.params[match[2]].as_float())),
            Experiment.params[match[2]].as_string(),
        ]
    raise InvalidRequest(
        f"order_by={by[:100]}: use {', '.join(_COLUMNS)}, duration, params.NAME or metrics.KEY"
    )
