"""Experiments and sweeps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_STATES = "'queued', 'starting', 'running', 'canceling', 'succeeded', 'failed', 'canceled'"


def upgrade() -> None:
    op.create_table(
        "sweeps",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("project_id", sa.BigInteger, nullable=False),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("created_at", _TIME, server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sweeps"),
    )
    op.create_table(
        "experiments",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("mlflow_run_id", sa.Text, nullable=False),
        sa.Column("project_id", sa.BigInteger, nullable=False),
        sa.Column("project_path", sa.Text, nullable=False),
        sa.Column("sweep_id", sa.BigInteger),
        sa.Column("rerun_of", sa.BigInteger),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("username", sa.Text, nullable=False),
        sa.Column("ref", sa.Text, nullable=False),
        sa.Column("commit_sha", sa.Text, nullable=False),
        sa.Column("ci_config_path", sa.Text, nullable=False),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("params", postgresql.JSONB, nullable=False),
        sa.Column("env", postgresql.JSONB, nullable=False),
        sa.Column("image", sa.Text),
        sa.Column("resources", postgresql.JSONB, nullable=False),
        sa.Column("seed", sa.BigInteger),
        sa.Column("tags", postgresql.JSONB, nullable=False),
        sa.Column("artifact_paths", postgresql.JSONB, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("created_at", _TIME, server_default=sa.func.now(), nullable=False),
        sa.Column("started_at", _TIME),
        sa.Column("finished_at", _TIME),
        sa.Column("cancel_requested_at", _TIME),
        sa.Column("launch_started_at", _TIME),
        sa.Column("run_sha", sa.Text),
        sa.Column("launched_at", _TIME),
        sa.Column("pipeline_id", sa.BigInteger),
        sa.Column("job_id", sa.BigInteger),
        sa.Column("job_url", sa.Text),
        sa.Column("closed_at", _TIME),
        sa.PrimaryKeyConstraint("id", name="pk_experiments"),
        sa.UniqueConstraint("mlflow_run_id", name="uq_experiments_mlflow_run_id"),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], name="fk_experiments_sweep_id_sweeps"),
        sa.ForeignKeyConstraint(["rerun_of"], ["experiments.id"], name="fk_experiments_rerun_of_experiments"),
        sa.CheckConstraint(f"state in ({_STATES})", name=op.f("ck_experiments_state")),
    )
    op.create_index("ix_experiments_project_id_created_at", "experiments", ["project_id", "created_at"])
    op.create_index("ix_experiments_sweep_id", "experiments", ["sweep_id"])
    op.create_index(
        "ix_experiments_open", "experiments", ["id"], postgresql_where=sa.text("closed_at is null")
    )


def downgrade() -> None:
    op.drop_table("experiments")
    op.drop_table("sweeps")
