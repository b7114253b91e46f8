"""Forks, imports, stars, topics, protected tags, groups that a project is shared with, commit comments, external statuses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_NOW = sa.text("now()")
_EMPTY = sa.text("'{}'")


def upgrade() -> None:
    _projects()
    _imports()
    _stars()
    _topics()
    _protected_tags()
    _group_links()
    _commit_notes()
    op.add_column("ci_jobs", sa.Column("is_external", sa.Boolean(), server_default="false", nullable=False))
    op.add_column("ci_jobs", sa.Column("target_url", sa.String(), nullable=True))
    op.add_column("ci_jobs", sa.Column("description", sa.String(), nullable=True))


def _projects() -> None:
    op.add_column("projects", sa.Column("forked_from_id", sa.BigInteger(), nullable=True))
    op.add_column("projects", sa.Column("star_count", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column(
        "projects",
        sa.Column(
            "languages", postgresql.JSONB(astext_type=sa.Text()), server_default=_EMPTY, nullable=False
        ),
    )
    op.add_column("projects", sa.Column("languages_sha", sa.String(), nullable=True))
    op.create_foreign_key(
        op.f("fk_projects_forked_from_id"),
        "projects",
        "projects",
        ["forked_from_id"],
        ["id"],
        ondelete="SET NULL",
    )
    op.create_index("ix_projects_forked_from_id", "projects", ["forked_from_id"])
    op.create_index("ix_projects_created_at", "projects", [sa.text("created_at DESC"), sa.text("id DESC")])
    op.create_index(
        "ix_projects_topics",
        "projects",
        ["topics"],
        postgresql_using="gin",
        postgresql_ops={"topics": "jsonb_path_ops"},
    )


def _imports() -> None:
    op.create_table(
        "project_imports",
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=True),
        sa.Column("credentials", sa.LargeBinary(), nullable=True),
        sa.Column("source_id", sa.BigInteger(), nullable=True),
        sa.Column("branch", sa.String(), nullable=True),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('git', 'fork')", name=op.f("ck_project_imports_known_kind")),
        sa.CheckConstraint(
            "status IN ('scheduled', 'started', 'finished', 'failed')",
            name=op.f("ck_project_imports_known_status"),
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_project_imports_project_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["source_id"], ["projects.id"], name=op.f("fk_project_imports_source_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_project_imports_user_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_project_imports")),
    )
    op.create_index("ix_project_imports_source_id", "project_imports", ["source_id"])
    op.create_index(
        "ix_project_imports_unfinished",
        "project_imports",
        ["project_id"],
        postgresql_where=sa.text("status IN ('scheduled', 'started')"),
    )


def _stars() -> None:
    op.create_table(
        "stars",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_stars_project_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_stars_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stars")),
        sa.UniqueConstraint("user_id", "project_id", name=op.f("uq_stars_user_id_project_id")),
    )
    op.create_index("ix_stars_project_id", "stars", ["project_id"])


def _topics() -> None:
    op.create_table(
        "topics",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=True),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_topics")),
    )
    op.create_index("uq_topics_name", "topics", [sa.text("lower(name)")], unique=True)
    op.execute(
        "INSERT INTO topics (name, title) "
        "SELECT min(name), min(name) FROM projects, jsonb_array_elements_text(topics) AS name GROUP BY lower(name)"
    )


def _protected_tags() -> None:
    op.create_table(
        "protected_tags",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("create_access_level", sa.Integer(), server_default="40", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_protected_tags_project_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_protected_tags")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_protected_tags_project_id_name")),
    )


def _group_links() -> None:
    op.create_table(
        "project_group_links",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("group_id", sa.BigInteger(), nullable=False),
        sa.Column("group_access", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.Date(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.CheckConstraint(
            "group_access IN (10, 15, 20, 30, 40, 50)", name=op.f("ck_project_group_links_group_access")
        ),
        sa.ForeignKeyConstraint(
            ["group_id"], ["namespaces.id"], name=op.f("fk_project_group_links_group_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_project_group_links_project_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_project_group_links")),
        sa.UniqueConstraint(
            "project_id", "group_id", name=op.f("uq_project_group_links_project_id_group_id")
        ),
    )
    op.create_index("ix_project_group_links_group_id", "project_group_links", ["group_id"])


def _commit_notes() -> None:
    op.create_table(
        "commit_notes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("commit_sha", sa.String(), nullable=False),
        sa.Column("author_id", sa.BigInteger(), nullable=True),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=True),
        sa.Column("line", sa.Integer(), nullable=True),
        sa.Column("line_type", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["author_id"], ["users.id"], name=op.f("fk_commit_notes_author_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_commit_notes_project_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commit_notes")),
    )
    op.create_index("ix_commit_notes_project_id", "commit_notes", ["project_id", "commit_sha"])


def downgrade() -> None:
    for column in ("description", "target_url", "is_external"):
        op.drop_column("ci_jobs", column)
    for table in (
        "commit_notes",
        "project_group_links",
        "protected_tags",
        "topics",
        "stars",
        "project_imports",
    ):
        op.drop_table(table)
    for index in ("ix_projects_topics", "ix_projects_created_at", "ix_projects_forked_from_id"):
        op.drop_index(index, table_name="projects")
    op.drop_constraint(op.f("fk_projects_forked_from_id"), "projects", type_="foreignkey")
    for column in ("languages_sha", "languages", "star_count", "forked_from_id"):
        op.drop_column("projects", column)
