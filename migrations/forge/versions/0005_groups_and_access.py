"""Groups' settings and tree, bots of projects and groups, deploy tokens, further addresses, expiry of memberships."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TRAVERSAL = """
CREATE FUNCTION set_namespace_traversal_ids() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.traversal_ids :=
        coalesce((SELECT traversal_ids FROM namespaces WHERE id = NEW.parent_id), '{}') || NEW.id;
    RETURN NEW;
END $$;

CREATE TRIGGER namespaces_traversal_ids BEFORE INSERT ON namespaces
    FOR EACH ROW EXECUTE FUNCTION set_namespace_traversal_ids();
"""

_BOTS_GO_WITH_THEIR_RESOURCE = """
CREATE FUNCTION remove_bot_without_resource() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM users WHERE id = OLD.user_id;
    RETURN NULL;
END $$;

CREATE TRIGGER resource_bots_orphans AFTER DELETE ON resource_bots
    FOR EACH ROW EXECUTE FUNCTION remove_bot_without_resource();
"""

_TRAVERSAL_OF_THOSE_THAT_EXIST = """
WITH RECURSIVE tree AS (
    SELECT id, ARRAY[id] AS ids FROM namespaces WHERE parent_id IS NULL
    UNION ALL
    SELECT below.id, tree.ids || below.id FROM namespaces AS below JOIN tree ON tree.id = below.parent_id
)
UPDATE namespaces SET traversal_ids = tree.ids FROM tree WHERE tree.id = namespaces.id
"""


def _jsonb(name: str, default: str = "'{}'") -> sa.Column[object]:
    return sa.Column(
        name, postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text(default), nullable=False
    )


def upgrade() -> None:
    _namespaces()
    _users()
    op.create_index(
        "ix_members_expires_at", "members", ["expires_at"], postgresql_where=sa.text("expires_at IS NOT NULL")
    )
    op.add_column("personal_access_tokens", sa.Column("previous_id", sa.BigInteger(), nullable=True))
    op.add_column(
        "personal_access_tokens", sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.create_foreign_key(
        op.f("fk_personal_access_tokens_previous_id"),
        "personal_access_tokens",
        "personal_access_tokens",
        ["previous_id"],
        ["id"],
        ondelete="SET NULL",
    )
    op.create_index(op.f("ix_personal_access_tokens_previous_id"), "personal_access_tokens", ["previous_id"])
    _resource_bots()
    _deploy_tokens()


def _namespaces() -> None:
    op.add_column("namespaces", _jsonb("attributes"))
    op.add_column(
        "namespaces",
        sa.Column(
            "traversal_ids",
            postgresql.ARRAY(sa.BigInteger()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
    )
    op.add_column(
        "namespaces",
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
    )
    op.add_column("namespaces", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(_TRAVERSAL_OF_THOSE_THAT_EXIST)
    op.execute(_TRAVERSAL)
    op.create_index("ix_namespaces_traversal_ids", "namespaces", ["traversal_ids"], postgresql_using="gin")


def _users() -> None:
    op.add_column("users", _jsonb("attributes"))
    op.add_column("users", _jsonb("preferences"))
    op.add_column("users", _jsonb("status"))
    op.add_column("users", sa.Column("created_by_id", sa.BigInteger(), nullable=True))
    op.create_foreign_key(
        op.f("fk_users_created_by_id"), "users", "users", ["created_by_id"], ["id"], ondelete="SET NULL"
    )
    op.create_index(op.f("ix_users_created_by_id"), "users", ["created_by_id"])
    op.create_table(
        "emails",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_emails_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_emails")),
    )
    op.create_index(op.f("ix_emails_user_id"), "emails", ["user_id"])
    op.create_index("uq_emails_email", "emails", [sa.literal_column("lower(email)")], unique=True)


def _resource_bots() -> None:
    op.create_table(
        "resource_bots",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=True),
        sa.Column("namespace_id", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "num_nonnulls(project_id, namespace_id) = 1", name=op.f("ck_resource_bots_one_source")
        ),
        sa.ForeignKeyConstraint(
            ["namespace_id"],
            ["namespaces.id"],
            name=op.f("fk_resource_bots_namespace_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_resource_bots_project_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_resource_bots_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_resource_bots")),
    )
    op.create_index(op.f("ix_resource_bots_project_id"), "resource_bots", ["project_id"])
    op.create_index(op.f("ix_resource_bots_namespace_id"), "resource_bots", ["namespace_id"])
    op.execute(_BOTS_GO_WITH_THEIR_RESOURCE)


def _deploy_tokens() -> None:
    op.create_table(
        "deploy_tokens",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=True),
        sa.Column("namespace_id", sa.BigInteger(), nullable=True),
        sa.Column("creator_id", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("username", sa.String(), nullable=True),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        _jsonb("scopes", "'[]'"),
        sa.Column("is_revoked", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "num_nonnulls(project_id, namespace_id) = 1", name=op.f("ck_deploy_tokens_one_source")
        ),
        sa.ForeignKeyConstraint(
            ["creator_id"], ["users.id"], name=op.f("fk_deploy_tokens_creator_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["namespace_id"],
            ["namespaces.id"],
            name=op.f("fk_deploy_tokens_namespace_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_deploy_tokens_project_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deploy_tokens")),
        sa.UniqueConstraint("digest", name=op.f("uq_deploy_tokens_digest")),
    )
    op.create_index(op.f("ix_deploy_tokens_project_id"), "deploy_tokens", ["project_id"])
    op.create_index(op.f("ix_deploy_tokens_namespace_id"), "deploy_tokens", ["namespace_id"])
    op.create_index(op.f("ix_deploy_tokens_creator_id"), "deploy_tokens", ["creator_id"])


def downgrade() -> None:
    op.execute("DELETE FROM users WHERE id IN (SELECT user_id FROM resource_bots)")
    op.drop_table("deploy_tokens")
    op.drop_table("resource_bots")
    op.execute("DROP FUNCTION remove_bot_without_resource()")
    op.drop_column("personal_access_tokens", "revoked_at")
    op.drop_column("personal_access_tokens", "previous_id")
    op.drop_index("ix_members_expires_at", table_name="members")
    op.drop_table("emails")
    for column in ("created_by_id", "status", "preferences", "attributes"):
        op.drop_column("users", column)
    op.execute("DROP TRIGGER namespaces_traversal_ids ON namespaces")
    op.execute("DROP FUNCTION set_namespace_traversal_ids()")
    for column in ("deleted_at", "updated_at", "traversal_ids", "attributes"):
        op.drop_column("namespaces", column)
