"""Attempts of experiments: which failures are tried again, and what is to be moved to another machine."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "experiments",
        sa.Column("retry", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
    )
    op.add_column("experiments", sa.Column("preempt_requested_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("experiments", "preempt_requested_at")
    op.drop_column("experiments", "retry")
