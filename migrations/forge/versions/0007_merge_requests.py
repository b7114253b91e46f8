"""Merge requests, versions of their diffs, people and comments; the merge request of a pipeline."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_OPENED = sa.text("state = 'opened'")


def _id() -> sa.Column[Any]:
    return sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False)


def _reference(name: str, *, nullable: bool = True) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _text(name: str, *, default: str | None = None, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.String(), server_default=default, nullable=nullable)


def _flag(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean(), server_default=sa.text("false"), nullable=False)


def _document(name: str) -> sa.Column[Any]:
    return sa.Column(name, postgresql.JSONB(astext_type=sa.Text()), nullable=True)


def _time(name: str, *, now: bool = False) -> sa.Column[Any]:
    default = sa.text("now()") if now else None
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=not now)


def _key(table: str, column: str, target: str, ondelete: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [column], [f"{target}.id"], name=op.f(f"fk_{table}_{column}"), ondelete=ondelete
    )


def upgrade() -> None:
    op.create_table(
        "merge_request_counters",
        _reference("project_id", nullable=False),
        sa.Column("last_iid", sa.BigInteger(), nullable=False),
        _key("merge_request_counters", "project_id", "projects", "CASCADE"),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_merge_request_counters")),
    )
    _merge_requests()
    _versions()
    _people()
    _notes()
    op.add_column("ci_pipelines", _reference("merge_request_id"))
    op.add_column("ci_pipelines", _document("merge_request_variables"))
    op.create_foreign_key(
        op.f("fk_ci_pipelines_merge_request_id"),
        "ci_pipelines",
        "merge_requests",
        ["merge_request_id"],
        ["id"],
        ondelete="SET NULL",
    )
    op.create_index(op.f("ix_ci_pipelines_merge_request_id"), "ci_pipelines", ["merge_request_id"])


def _merge_requests() -> None:
    name = "merge_requests"
    op.create_table(
        name,
        _id(),
        sa.Column("iid", sa.BigInteger(), nullable=False),
        _reference("project_id", nullable=False),
        _reference("source_project_id"),
        _reference("author_id"),
        _text("title"),
        _text("description", nullable=True),
        _flag("is_draft"),
        _text("state", default="opened"),
        _text("source_branch"),
        _text("target_branch"),
        _text("sha", nullable=True),
        sa.Column("labels", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("force_remove_source_branch", sa.Boolean(), nullable=True),
        sa.Column("should_remove_source_branch", sa.Boolean(), nullable=True),
        _flag("squash"),
        _flag("allow_collaboration"),
        sa.Column("discussion_locked", sa.Boolean(), nullable=True),
        _text("merge_status", default="unchecked"),
        _text("checked_shas", nullable=True),
        _text("merge_error", nullable=True),
        _text("merging_sha", nullable=True),
        _document("auto_merge"),
        _reference("merge_user_id"),
        _time("merged_at"),
        _text("merge_commit_sha", nullable=True),
        _reference("closed_by_id"),
        _time("closed_at"),
        _time("created_at", now=True),
        _time("updated_at", now=True),
        sa.CheckConstraint(
            "state IN ('opened', 'closed', 'merged')", name=op.f("ck_merge_requests_known_state")
        ),
        _key(name, "project_id", "projects", "CASCADE"),
        _key(name, "source_project_id", "projects", "SET NULL"),
        _key(name, "author_id", "users", "SET NULL"),
        _key(name, "merge_user_id", "users", "SET NULL"),
        _key(name, "closed_by_id", "users", "SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_merge_requests")),
        sa.UniqueConstraint("project_id", "iid", name=op.f("uq_merge_requests_project_id_iid")),
    )
    for column in ("author_id", "merge_user_id"):
        op.create_index(op.f(f"ix_merge_requests_{column}"), name, [column])
    branches = ["project_id", "target_branch", "source_project_id", "source_branch"]
    op.create_index("uq_merge_requests_opened", name, branches, unique=True, postgresql_where=_OPENED)
    op.create_index("ix_merge_requests_source", name, branches[2:], postgresql_where=_OPENED)
    newest = sa.text("created_at DESC")
    op.create_index("ix_merge_requests_project_created", name, ["project_id", newest])
    op.create_index("ix_merge_requests_created_at", name, [newest])
    op.create_index(
        "ix_merge_requests_auto_merge", name, ["id"], postgresql_where=sa.text("auto_merge IS NOT NULL")
    )


def _versions() -> None:
    name = "merge_request_versions"
    op.create_table(
        name,
        _id(),
        _reference("merge_request_id", nullable=False),
        _text("head_sha", nullable=True),
        _text("base_sha", nullable=True),
        _text("start_sha", nullable=True),
        _text("file_count", default="0"),
        sa.Column("commit_count", sa.Integer(), server_default="0", nullable=False),
        _text("patch_id", nullable=True),
        _time("created_at", now=True),
        _key(name, "merge_request_id", "merge_requests", "CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{name}")),
    )
    op.create_index("ix_merge_request_versions_of", name, ["merge_request_id", sa.text("id DESC")])


def _people() -> None:
    name = "merge_request_people"
    op.create_table(
        name,
        _reference("merge_request_id", nullable=False),
        _text("role"),
        _reference("user_id", nullable=False),
        _text("state", default="unreviewed"),
        _time("created_at", now=True),
        sa.CheckConstraint(
            "role IN ('assignee', 'reviewer', 'approver')", name=op.f("ck_merge_request_people_known_role")
        ),
        _key(name, "merge_request_id", "merge_requests", "CASCADE"),
        _key(name, "user_id", "users", "CASCADE"),
        sa.PrimaryKeyConstraint("merge_request_id", "role", "user_id", name=op.f(f"pk_{name}")),
    )
    op.create_index(op.f("ix_merge_request_people_user_id"), name, ["user_id"])


def _notes() -> None:
    name = "merge_request_notes"
    op.create_table(
        name,
        _id(),
        _reference("merge_request_id", nullable=False),
        _text("discussion_id"),
        _text("type", nullable=True),
        _reference("author_id"),
        _text("body"),
        _flag("is_system"),
        _flag("is_internal"),
        _document("position"),
        _flag("is_resolvable"),
        _time("resolved_at"),
        _reference("resolved_by_id"),
        _time("created_at", now=True),
        _time("updated_at", now=True),
        _key(name, "merge_request_id", "merge_requests", "CASCADE"),
        _key(name, "author_id", "users", "SET NULL"),
        _key(name, "resolved_by_id", "users", "SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{name}")),
    )
    op.create_index(op.f("ix_merge_request_notes_author_id"), name, ["author_id"])
    op.create_index("ix_merge_request_notes_of", name, ["merge_request_id", "id"])
    op.create_index("ix_merge_request_notes_discussion", name, ["merge_request_id", "discussion_id"])


def downgrade() -> None:
    op.drop_column("ci_pipelines", "merge_request_variables")
    op.drop_column("ci_pipelines", "merge_request_id")
    for table in ("notes", "people", "versions"):
        op.drop_table(f"merge_request_{table}")
    op.drop_table("merge_requests")
    op.drop_table("merge_request_counters")
