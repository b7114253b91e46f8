"""Repositories of the container registry."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TO_DO = sa.text("project_id IS NULL OR status IS NOT NULL OR cleanup IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "container_repositories",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=True),
        sa.Column("cleanup", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("cleanup_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cleanup_started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "status IN ('delete_scheduled', 'delete_ongoing', 'delete_failed')",
            name=op.f("ck_container_repositories_known_status"),
        ),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_container_repositories_project_id"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_container_repositories")),
        sa.UniqueConstraint("path", name=op.f("uq_container_repositories_path")),
    )
    op.create_index(
        "ix_container_repositories_project_id", "container_repositories", ["project_id"], unique=False
    )
    op.create_index(
        "ix_container_repositories_to_do",
        "container_repositories",
        ["id"],
        unique=False,
        postgresql_where=_TO_DO,
    )


def downgrade() -> None:
    op.drop_index(
        "ix_container_repositories_to_do", table_name="container_repositories", postgresql_where=_TO_DO
    )
    op.drop_index("ix_container_repositories_project_id", table_name="container_repositories")
    op.drop_table("container_repositories")
