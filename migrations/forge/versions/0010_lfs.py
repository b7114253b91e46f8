"""Git LFS: objects, who has them, files that no row names yet, file locks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_NOW = sa.text("now()")


def upgrade() -> None:
    op.create_table(
        "lfs_objects",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("oid", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.CheckConstraint("oid ~ '^[0-9a-f]{64}$'", name=op.f("ck_lfs_objects_oid")),
        sa.CheckConstraint("size >= 0", name=op.f("ck_lfs_objects_size")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lfs_objects")),
        sa.UniqueConstraint("oid", name=op.f("uq_lfs_objects_oid")),
    )
    op.create_table(
        "lfs_objects_projects",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("lfs_object_id", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["lfs_object_id"], ["lfs_objects.id"], name=op.f("fk_lfs_objects_projects_lfs_object_id")
        ),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_lfs_objects_projects_project_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lfs_objects_projects")),
        sa.UniqueConstraint(
            "project_id", "lfs_object_id", name=op.f("uq_lfs_objects_projects_project_id_lfs_object_id")
        ),
    )
    op.create_index("ix_lfs_objects_projects_lfs_object_id", "lfs_objects_projects", ["lfs_object_id"])
    op.create_table(
        "lfs_loose_files",
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.PrimaryKeyConstraint("path", name=op.f("pk_lfs_loose_files")),
    )
    op.create_table(
        "lfs_file_locks",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_lfs_file_locks_project_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_lfs_file_locks_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lfs_file_locks")),
        sa.UniqueConstraint("project_id", "path", name=op.f("uq_lfs_file_locks_project_id_path")),
    )
    op.create_index("ix_lfs_file_locks_user_id", "lfs_file_locks", ["user_id"])


def downgrade() -> None:
    op.drop_table("lfs_file_locks")
    op.drop_table("lfs_loose_files")
    op.drop_table("lfs_objects_projects")
    op.drop_table("lfs_objects")
