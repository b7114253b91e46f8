"""Tables of tracking. Times are milliseconds since the epoch (`…_ms`), as MLflow's clients send them.

Curves are the bulk: `tracking_metric` has one narrow row per point (64 bytes and one index, which is also the
order of a curve and what makes a repeated request harmless), with the metric's name held once in
`tracking_metric_key`. `tracking_latest_metric` holds each run's last point per metric, so that lists and searches
never read curves. These two carry no foreign key: the statement that writes them joins the run, and checking each
of a thousand points again would halve what a run can log.

NaN and infinities are kept as they are. Rows go by `gc`, in order; nothing else deletes a run.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Float, ForeignKey, Identity, Index, Integer, SmallInteger, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from nautilus.db.models.base import Base

_EMPTY = text("'{}'::jsonb")


class TrackingExperiment(Base):
    """MLflow's experiment: one for each project, made when it is first needed."""

    __tablename__ = "tracking_experiment"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """The project's number at GitLab."""
    name: Mapped[str]
    """The project's path_with_namespace when we last saw it."""
    created_ms: Mapped[int]
    updated_ms: Mapped[int]
    tags: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=_EMPTY)


class TrackingRun(Base):
    """MLflow's run: a Nautilus experiment's, or one that a person or a job's script made."""

    __tablename__ = "tracking_run"
    __table_args__ = (Index(None, "experiment_id", "start_time_ms", "id"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    run_id: Mapped[str] = mapped_column(unique=True)
    """32 lower-case hexadecimal digits."""
    experiment_id: Mapped[int] = mapped_column(ForeignKey("tracking_experiment.id"))
    made_by_run: Mapped[int | None] = mapped_column(ForeignKey("tracking_run.id"), index=True)
    """The run of the job whose token made this one: that job may write it too."""
    name: Mapped[str]
    user_name: Mapped[str]
    status: Mapped[int] = mapped_column(SmallInteger)
    """MLflow's RunStatus: 1 running, 2 scheduled, 3 finished, 4 failed, 5 killed."""
    start_time_ms: Mapped[int]
    end_time_ms: Mapped[int | None]
    deleted_at: Mapped[datetime | None]


class TrackingParam(Base):
    __tablename__ = "tracking_param"

    run: Mapped[int] = mapped_column(ForeignKey("tracking_run.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    value: Mapped[str]


class TrackingTag(Base):
    __tablename__ = "tracking_tag"

    run: Mapped[int] = mapped_column(ForeignKey("tracking_run.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    value: Mapped[str]


class TrackingMetricKey(Base):
    """A metric's name, once."""

    __tablename__ = "tracking_metric_key"

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class TrackingMetric(Base):
    """One point of a curve."""

    __tablename__ = "tracking_metric"

    run: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    key: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    timestamp_ms: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[float] = mapped_column(Float(53), primary_key=True, autoincrement=False)


class TrackingLatestMetric(Base):
    """The greatest point of each curve by (step, timestamp, value), MLflow's idea of a metric's value."""

    __tablename__ = "tracking_latest_metric"
    __table_args__ = ({"postgresql_with": {"fillfactor": 70}},)

    run: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    key: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    step: Mapped[int]
    timestamp_ms: Mapped[int]
    value: Mapped[float] = mapped_column(Float(53))


class TrackingDataset(Base):
    """What a run read, by name and digest; `source`, `schema`, `profile` are the client's JSON."""

    __tablename__ = "tracking_dataset"
    __table_args__ = (UniqueConstraint("experiment_id", "name", "digest"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    experiment_id: Mapped[int] = mapped_column(ForeignKey("tracking_experiment.id"))
    name: Mapped[str]
    digest: Mapped[str]
    source_type: Mapped[str]
    source: Mapped[str]
    schema: Mapped[str | None]
    profile: Mapped[str | None]


class TrackingInput(Base):
    """A dataset that a run read, with tags such as `mlflow.data.context`."""

    __tablename__ = "tracking_input"

    run: Mapped[int] = mapped_column(ForeignKey("tracking_run.id", ondelete="CASCADE"), primary_key=True)
    dataset: Mapped[int] = mapped_column(ForeignKey("tracking_dataset.id"), primary_key=True, index=True)
    tags: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=_EMPTY)


class TrackingModel(Base):
    """MLflow 3's logged model."""

    __tablename__ = "tracking_model"
    __table_args__ = (Index(None, "experiment_id", "created_ms"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    model_id: Mapped[str] = mapped_column(unique=True)
    """`m-` and 32 hexadecimal digits."""
    experiment_id: Mapped[int] = mapped_column(ForeignKey("tracking_experiment.id"))
    source_run: Mapped[int | None] = mapped_column(ForeignKey("tracking_run.id"), index=True)
    name: Mapped[str]
    model_type: Mapped[str]
    status: Mapped[int] = mapped_column(SmallInteger)
    """MLflow's LoggedModelStatus: 0 unspecified, 1 pending, 2 ready, 3 upload failed."""
    created_ms: Mapped[int]
    updated_ms: Mapped[int]
    deleted_at: Mapped[datetime | None]
    params: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=_EMPTY)
    tags: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=_EMPTY)


class TrackingModelLink(Base):
    """A model that a run took in (`is_output` false) or gave out at a step."""

    __tablename__ = "tracking_model_link"

    run: Mapped[int] = mapped_column(ForeignKey("tracking_run.id", ondelete="CASCADE"), primary_key=True)
    is_output: Mapped[bool] = mapped_column(primary_key=True)
    model: Mapped[int] = mapped_column(ForeignKey("tracking_model.id"), primary_key=True, index=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class TrackingModelMetric(Base):
    """A metric of a model, on a dataset when it names one; the run that measured it has the point as well."""

    __tablename__ = "tracking_model_metric"

    model: Mapped[int] = mapped_column(ForeignKey("tracking_model.id"), primary_key=True)
    key: Mapped[int] = mapped_column(ForeignKey("tracking_metric_key.id"), primary_key=True, type_=Integer)
    run: Mapped[int] = mapped_column(ForeignKey("tracking_run.id"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    timestamp_ms: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[float] = mapped_column(Float(53))
    dataset_name: Mapped[str | None]
    dataset_digest: Mapped[str | None]
