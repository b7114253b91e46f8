"""Registration tokens of groups."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ci_namespaces",
        sa.Column("namespace_id", sa.BigInteger(), nullable=False),
        sa.Column("registration_digest", sa.LargeBinary(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["namespace_id"],
            ["namespaces.id"],
            name=op.f("fk_ci_namespaces_namespace_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("namespace_id", name=op.f("pk_ci_namespaces")),
        sa.UniqueConstraint("registration_digest", name=op.f("uq_ci_namespaces_registration_digest")),
    )


def downgrade() -> None:
    op.drop_table("ci_namespaces")
