"""Schedules, trigger tokens, variables of groups, environments and deployments, the reach of job tokens."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _id() -> sa.Column[Any]:
    return sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False)


def _time(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)


def _key(table: str, column: str, target: str, ondelete: str = "CASCADE") -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [column], [f"{target}.id"], name=op.f(f"fk_{table}_{column}"), ondelete=ondelete
    )


def upgrade() -> None:
    _create_schedules()
    _create_triggers()
    _create_environments()
    _create_deployments()
    _create_allowances()
    _create_summaries()
    op.add_column(
        "ci_projects", sa.Column("last_deployment_iid", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.add_column(
        "ci_projects", sa.Column("is_job_token_limited", sa.Boolean(), server_default="true", nullable=False)
    )
    _extend_pipelines()
    _extend_variables()


def _create_schedules() -> None:
    table = "ci_pipeline_schedules"
    op.create_table(
        table,
        _id(),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("owner_id", sa.BigInteger(), nullable=True),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("ref", sa.String(), nullable=False),
        sa.Column("cron", sa.String(), nullable=False),
        sa.Column("cron_timezone", sa.String(), server_default="UTC", nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("next_run_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "inputs",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        _time("created_at"),
        _time("updated_at"),
        _key(table, "project_id", "projects"),
        _key(table, "owner_id", "users", "SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
    )
    op.create_index(op.f(f"ix_{table}_project_id"), table, ["project_id"])
    op.create_index(op.f(f"ix_{table}_owner_id"), table, ["owner_id"])
    op.create_index(f"ix_{table}_due", table, ["next_run_at"], postgresql_where=sa.text("is_active"))
    variables = "ci_pipeline_schedule_variables"
    op.create_table(
        variables,
        _id(),
        sa.Column("schedule_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("variable_type", sa.String(), server_default="env_var", nullable=False),
        sa.Column("is_raw", sa.Boolean(), server_default="false", nullable=False),
        _key(variables, "schedule_id", table),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{variables}")),
        sa.UniqueConstraint("schedule_id", "key", name=op.f(f"uq_{variables}_schedule_id_key")),
    )


def _create_triggers() -> None:
    table = "ci_triggers"
    op.create_table(
        table,
        _id(),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("owner_id", sa.BigInteger(), nullable=False),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column("token", sa.LargeBinary(), nullable=False),
        sa.Column("token_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        _time("created_at"),
        _time("updated_at"),
        _key(table, "project_id", "projects"),
        _key(table, "owner_id", "users"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
        sa.UniqueConstraint("token_digest", name=op.f(f"uq_{table}_token_digest")),
    )
    op.create_index(op.f(f"ix_{table}_project_id"), table, ["project_id"])
    op.create_index(op.f(f"ix_{table}_owner_id"), table, ["owner_id"])


def _create_environments() -> None:
    table = "environments"
    op.create_table(
        table,
        _id(),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("slug", sa.String(), nullable=False),
        sa.Column("external_url", sa.String(), nullable=True),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column("state", sa.String(), server_default="available", nullable=False),
        sa.Column("tier", sa.String(), server_default="other", nullable=False),
        sa.Column("auto_stop_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("auto_stop_setting", sa.String(), server_default="always", nullable=False),
        _time("created_at"),
        _time("updated_at"),
        _key(table, "project_id", "projects"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
        sa.UniqueConstraint("project_id", "name", name=op.f(f"uq_{table}_project_id_name")),
        sa.UniqueConstraint("project_id", "slug", name=op.f(f"uq_{table}_project_id_slug")),
    )
    op.create_index(
        f"ix_{table}_auto_stop_at",
        table,
        ["auto_stop_at"],
        postgresql_where=sa.text("state = 'available' AND auto_stop_at IS NOT NULL"),
    )


def _create_deployments() -> None:
    table = "deployments"
    op.create_table(
        table,
        _id(),
        sa.Column("iid", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("environment_id", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("ref", sa.String(), nullable=False),
        sa.Column("is_tag", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("sha", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("on_stop", sa.String(), nullable=True),
        _time("created_at"),
        _time("updated_at"),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        _key(table, "project_id", "projects"),
        _key(table, "environment_id", "environments"),
        _key(table, "job_id", "ci_jobs", "SET NULL"),
        _key(table, "user_id", "users", "SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
        sa.UniqueConstraint("project_id", "iid", name=op.f(f"uq_{table}_project_id_iid")),
        sa.UniqueConstraint("job_id", name=op.f(f"uq_{table}_job_id")),
    )
    op.create_index(op.f(f"ix_{table}_user_id"), table, ["user_id"])
    op.create_index(f"ix_{table}_environment_id", table, ["environment_id", sa.text("id DESC")])


def _create_allowances() -> None:
    table = "ci_job_token_allowances"
    op.create_table(
        table,
        _id(),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("source_project_id", sa.BigInteger(), nullable=True),
        sa.Column("source_namespace_id", sa.BigInteger(), nullable=True),
        sa.Column("added_by_id", sa.BigInteger(), nullable=True),
        _time("created_at"),
        sa.CheckConstraint(
            "num_nonnulls(source_project_id, source_namespace_id) = 1", name=op.f(f"ck_{table}_one_source")
        ),
        _key(table, "project_id", "projects"),
        _key(table, "source_project_id", "projects"),
        _key(table, "source_namespace_id", "namespaces"),
        _key(table, "added_by_id", "users", "SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
        sa.UniqueConstraint(
            "project_id", "source_project_id", name=op.f(f"uq_{table}_project_id_source_project_id")
        ),
        sa.UniqueConstraint(
            "project_id", "source_namespace_id", name=op.f(f"uq_{table}_project_id_source_namespace_id")
        ),
    )
    op.create_index(op.f(f"ix_{table}_source_project_id"), table, ["source_project_id"])
    op.create_index(op.f(f"ix_{table}_source_namespace_id"), table, ["source_namespace_id"])


def _create_summaries() -> None:
    table = "ci_junit_summaries"
    counts = ("total", "success", "failed", "skipped", "error")
    op.create_table(
        table,
        sa.Column("artifact_id", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("total_time_s", sa.Float(), server_default="0", nullable=False),
        *(sa.Column(name, sa.Integer(), server_default="0", nullable=False) for name in counts),
        sa.Column("suite_error", sa.String(), nullable=True),
        _key(table, "artifact_id", "ci_job_artifacts"),
        sa.PrimaryKeyConstraint("artifact_id", name=op.f(f"pk_{table}")),
    )


def _extend_pipelines() -> None:
    table = "ci_pipelines"
    for column, target in (("schedule_id", "ci_pipeline_schedules"), ("trigger_id", "ci_triggers")):
        op.add_column(table, sa.Column(column, sa.BigInteger(), nullable=True))
        op.create_foreign_key(
            op.f(f"fk_{table}_{column}"), table, target, [column], ["id"], ondelete="SET NULL"
        )
    op.create_index(f"ix_{table}_schedule_id", table, ["schedule_id", sa.text("id DESC")])
    op.create_index(op.f(f"ix_{table}_trigger_id"), table, ["trigger_id"])


_OLD_KEY = "uq_ci_variables_project_id_key_environment_scope"
_NEW_KEY = "uq_ci_variables_project_id_namespace_id_key_environment_scope"


def _extend_variables() -> None:
    table = "ci_variables"
    op.add_column(table, sa.Column("namespace_id", sa.BigInteger(), nullable=True))
    op.create_foreign_key(
        op.f(f"fk_{table}_namespace_id"), table, "namespaces", ["namespace_id"], ["id"], ondelete="CASCADE"
    )
    op.create_index(op.f(f"ix_{table}_namespace_id"), table, ["namespace_id"])
    op.drop_constraint(op.f(_OLD_KEY), table, type_="unique")
    op.create_unique_constraint(
        op.f(_NEW_KEY),
        table,
        ["project_id", "namespace_id", "key", "environment_scope"],
        postgresql_nulls_not_distinct=True,
    )
    op.create_check_constraint(
        op.f(f"ck_{table}_one_owner"), table, "num_nonnulls(project_id, namespace_id) <= 1"
    )


def downgrade() -> None:
    op.execute("DELETE FROM ci_variables WHERE namespace_id IS NOT NULL")
    op.drop_constraint(op.f("ck_ci_variables_one_owner"), "ci_variables", type_="check")
    op.drop_constraint(op.f(_NEW_KEY), "ci_variables", type_="unique")
    op.create_unique_constraint(
        op.f(_OLD_KEY),
        "ci_variables",
        ["project_id", "key", "environment_scope"],
        postgresql_nulls_not_distinct=True,
    )
    op.drop_column("ci_variables", "namespace_id")
    for column in ("schedule_id", "trigger_id"):
        op.drop_column("ci_pipelines", column)
    op.drop_column("ci_projects", "is_job_token_limited")
    op.drop_column("ci_projects", "last_deployment_iid")
    for table in (
        "ci_junit_summaries",
        "ci_job_token_allowances",
        "deployments",
        "environments",
        "ci_triggers",
        "ci_pipeline_schedule_variables",
        "ci_pipeline_schedules",
    ):
        op.drop_table(table)
