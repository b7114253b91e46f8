"""Moves an experiment to another state, together with its MLflow run: the only place that does."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from nautilus.core.states import ExperimentState, check_transition
from nautilus.db.models.experiment import Experiment
from nautilus.experiments.ports import Tracking


async def move(
    session: AsyncSession,
    tracking: Tracking,
    experiment: Experiment,
    state: ExperimentState,
    reason: str | None,
    *,
    started_at: datetime | None = None,
    finished_at: datetime | None = None,
) -> bool:
    """True where something changed. The row is locked by the caller's session. Times are GitLab's, where it
    has them.

    Raises InvalidTransition.
    """
    before = ExperimentState(experiment.state)
    check_transition(before, state)
    same = (before, experiment.reason, experiment.started_at) == (state, reason, started_at)
    if same and not state.is_final:
        return False
    experiment.state, experiment.reason = str(state), reason
    experiment.started_at = started_at or (None if not state.is_final else experiment.started_at)
    if state.is_final and experiment.finished_at is None:
        experiment.finished_at = finished_at or datetime.now(UTC)
    await tracking.set_run_state(
        session,
        experiment.mlflow_run_id,
        state,
        started_at=experiment.started_at,
        finished_at=experiment.finished_at,
    )
    return True


async def fail(session: AsyncSession, tracking: Tracking, experiment: Experiment, reason: str) -> bool:
    """Ends it as failed, or as canceled where that was asked for; does nothing where it has ended."""
    state = ExperimentState(experiment.state)
    if state.is_final:
        return False
    if state is ExperimentState.CANCELING:
        return await move(session, tracking, experiment, ExperimentState.CANCELED, reason)
    return await move(session, tracking, experiment, ExperimentState.FAILED, reason)
