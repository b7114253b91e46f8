"""SSH keys of people and of projects."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TRIGGER = """
CREATE FUNCTION remove_orphaned_deploy_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM keys WHERE id = OLD.deploy_key_id AND NOT is_public
        AND NOT EXISTS (SELECT FROM deploy_keys_projects WHERE deploy_key_id = OLD.deploy_key_id);
    RETURN NULL;
END $$;

CREATE TRIGGER deploy_keys_projects_orphans AFTER DELETE ON deploy_keys_projects
    FOR EACH ROW EXECUTE FUNCTION remove_orphaned_deploy_key();
"""


def upgrade() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("creator_id", sa.BigInteger(), nullable=True),
        sa.Column("is_deploy_key", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("is_public", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("fingerprint_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("fingerprint_md5", sa.LargeBinary(length=16), nullable=False),
        sa.Column("usage_type", sa.String(), server_default="auth_and_signing", nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("is_deploy_key = (user_id IS NULL)", name=op.f("ck_keys_owner")),
        sa.CheckConstraint(
            "usage_type IN ('auth_and_signing', 'auth', 'signing')", name=op.f("ck_keys_usage_type")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_keys_user_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["creator_id"], ["users.id"], name=op.f("fk_keys_creator_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keys")),
        sa.UniqueConstraint("fingerprint_sha256", name=op.f("uq_keys_fingerprint_sha256")),
    )
    op.create_index("ix_keys_user_id", "keys", ["user_id", "id"], unique=False)
    op.create_index(op.f("ix_keys_creator_id"), "keys", ["creator_id"], unique=False)
    op.create_index(op.f("ix_keys_fingerprint_md5"), "keys", ["fingerprint_md5"], unique=False)
    op.create_table(
        "deploy_keys_projects",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("deploy_key_id", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("can_push", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["deploy_key_id"],
            ["keys.id"],
            name=op.f("fk_deploy_keys_projects_deploy_key_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_deploy_keys_projects_project_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deploy_keys_projects")),
        sa.UniqueConstraint(
            "deploy_key_id", "project_id", name=op.f("uq_deploy_keys_projects_deploy_key_id_project_id")
        ),
    )
    op.create_index(
        op.f("ix_deploy_keys_projects_project_id"), "deploy_keys_projects", ["project_id"], unique=False
    )
    op.execute(_TRIGGER)


def downgrade() -> None:
    op.drop_table("deploy_keys_projects")
    op.drop_table("keys")
    op.execute("DROP FUNCTION remove_orphaned_deploy_key()")
