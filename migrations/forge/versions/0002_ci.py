"""CI: pipelines, jobs, variables, artifacts, runners; triggers that remember the files of deleted rows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


_TRIGGERS = """
CREATE FUNCTION ci_remember_trace() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ci_deleted_files (path) VALUES ('traces/' || (OLD.id / 1000) || '/' || OLD.id || '.log');
    RETURN NULL;
END $$;

CREATE FUNCTION ci_remember_artifact() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ci_deleted_files (path) VALUES (OLD.path);
    RETURN NULL;
END $$;

CREATE TRIGGER ci_jobs_remember_trace AFTER DELETE ON ci_jobs
    FOR EACH ROW EXECUTE FUNCTION ci_remember_trace();

CREATE TRIGGER ci_job_artifacts_remember AFTER DELETE ON ci_job_artifacts
    FOR EACH ROW EXECUTE FUNCTION ci_remember_artifact();

CREATE TRIGGER ci_job_artifacts_replaced AFTER UPDATE OF path ON ci_job_artifacts
    FOR EACH ROW WHEN (OLD.path <> NEW.path) EXECUTE FUNCTION ci_remember_artifact();
"""


def upgrade() -> None:
    op.create_table(
        "ci_deleted_files",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ci_deleted_files")),
    )
    op.create_table(
        "ci_instance",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("registration_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_ci_instance_single_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ci_instance")),
    )
    op.create_table(
        "ci_runners",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("runner_type", sa.String(), nullable=False),
        sa.Column("registration_type", sa.String(), nullable=False),
        sa.Column("creator_id", sa.BigInteger(), nullable=True),
        sa.Column("namespace_id", sa.BigInteger(), nullable=True),
        sa.Column("token_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("token_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column("maintenance_note", sa.String(), nullable=True),
        sa.Column("is_active", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("is_locked", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("run_untagged", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("access_level", sa.String(), server_default="not_protected", nullable=False),
        sa.Column("tags", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("maximum_timeout_s", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("contacted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ip_address", sa.String(), server_default="", nullable=False),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("version", sa.String(), nullable=True),
        sa.Column("revision", sa.String(), nullable=True),
        sa.Column("platform", sa.String(), nullable=True),
        sa.Column("architecture", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["creator_id"], ["users.id"], name=op.f("fk_ci_runners_creator_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["namespace_id"], ["namespaces.id"], name=op.f("fk_ci_runners_namespace_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ci_runners")),
        sa.UniqueConstraint("token_digest", name=op.f("uq_ci_runners_token_digest")),
    )
    op.create_index(op.f("ix_ci_runners_creator_id"), "ci_runners", ["creator_id"], unique=False)
    op.create_index(op.f("ix_ci_runners_namespace_id"), "ci_runners", ["namespace_id"], unique=False)
    op.create_table(
        "ci_pipelines",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("iid", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("ref", sa.String(), nullable=False),
        sa.Column("is_tag", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("is_protected", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("sha", sa.String(), nullable=False),
        sa.Column("before_sha", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("stages", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("config_path", sa.String(), nullable=False),
        sa.Column(
            "auto_cancel",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("yaml_errors", sa.String(), nullable=True),
        sa.Column("failure_reason", sa.String(), nullable=True),
        sa.Column("committed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_ci_pipelines_project_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_ci_pipelines_user_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ci_pipelines")),
        sa.UniqueConstraint("project_id", "iid", name=op.f("uq_ci_pipelines_project_id_iid")),
    )
    op.create_index(
        "ix_ci_pipelines_project_ref",
        "ci_pipelines",
        ["project_id", "ref", sa.literal_column("id DESC")],
        unique=False,
    )
    op.create_index("ix_ci_pipelines_project_sha", "ci_pipelines", ["project_id", "sha"], unique=False)
    op.create_index(op.f("ix_ci_pipelines_user_id"), "ci_pipelines", ["user_id"], unique=False)
    op.create_table(
        "ci_projects",
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("last_iid", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("registration_digest", sa.LargeBinary(length=32), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_ci_projects_project_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_ci_projects")),
        sa.UniqueConstraint("registration_digest", name=op.f("uq_ci_projects_registration_digest")),
    )
    op.create_table(
        "ci_runner_managers",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("runner_id", sa.BigInteger(), nullable=False),
        sa.Column("system_id", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=True),
        sa.Column("revision", sa.String(), nullable=True),
        sa.Column("platform", sa.String(), nullable=True),
        sa.Column("architecture", sa.String(), nullable=True),
        sa.Column("executor", sa.String(), nullable=True),
        sa.Column("ip_address", sa.String(), server_default="", nullable=False),
        sa.Column(
            "config", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("contacted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["runner_id"], ["ci_runners.id"], name=op.f("fk_ci_runner_managers_runner_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ci_runner_managers")),
        sa.UniqueConstraint("runner_id", "system_id", name=op.f("uq_ci_runner_managers_runner_id_system_id")),
    )
    op.create_table(
        "ci_runner_projects",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("runner_id", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_ci_runner_projects_project_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["runner_id"], ["ci_runners.id"], name=op.f("fk_ci_runner_projects_runner_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ci_runner_projects")),
        sa.UniqueConstraint(
            "runner_id", "project_id", name=op.f("uq_ci_runner_projects_runner_id_project_id")
        ),
    )
    op.create_index(
        op.f("ix_ci_runner_projects_project_id"), "ci_runner_projects", ["project_id"], unique=False
    )
    op.create_table(
        "ci_variables",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=True),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("variable_type", sa.String(), server_default="env_var", nullable=False),
        sa.Column("is_protected", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("is_masked", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("is_hidden", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("is_raw", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("environment_scope", sa.String(), server_default="*", nullable=False),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_ci_variables_project_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ci_variables")),
        sa.UniqueConstraint(
            "project_id",
            "key",
            "environment_scope",
            name=op.f("uq_ci_variables_project_id_key_environment_scope"),
            postgresql_nulls_not_distinct=True,
        ),
    )
    op.create_table(
        "ci_jobs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("pipeline_id", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("stage_idx", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("when_", sa.String(), server_default="on_success", nullable=False),
        sa.Column("allow_failure", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("definition", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("needs", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column("tags", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("is_protected", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("enqueue_now", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("is_retried", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("is_processed", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("auto_retries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("runner_id", sa.BigInteger(), nullable=True),
        sa.Column("runner_manager_id", sa.BigInteger(), nullable=True),
        sa.Column(
            "runner_features",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("token_digest", sa.LargeBinary(length=32), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("is_ack_awaited", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("timeout_s", sa.Integer(), nullable=True),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("scheduled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_contact_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("canceling_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("erased_by_id", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("failure_reason", sa.String(), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("coverage", sa.Double(), nullable=True),
        sa.Column("trace_checksum", sa.String(), nullable=True),
        sa.Column("trace_is_masked", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("trace_resets", sa.Integer(), server_default="0", nullable=False),
        sa.Column("artifacts_expire_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["erased_by_id"], ["users.id"], name=op.f("fk_ci_jobs_erased_by_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["pipeline_id"], ["ci_pipelines.id"], name=op.f("fk_ci_jobs_pipeline_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_ci_jobs_project_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["runner_id"], ["ci_runners.id"], name=op.f("fk_ci_jobs_runner_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["runner_manager_id"],
            ["ci_runner_managers.id"],
            name=op.f("fk_ci_jobs_runner_manager_id"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_ci_jobs_user_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ci_jobs")),
        sa.UniqueConstraint("token_digest", name=op.f("uq_ci_jobs_token_digest")),
    )
    op.create_index(
        "ix_ci_jobs_unfinished",
        "ci_jobs",
        ["status", "id"],
        unique=False,
        postgresql_where=sa.text("status IN ('pending', 'running', 'canceling', 'scheduled')"),
    )
    op.create_index(op.f("ix_ci_jobs_pipeline_id"), "ci_jobs", ["pipeline_id"], unique=False)
    op.create_index(
        "ix_ci_jobs_project_id", "ci_jobs", ["project_id", sa.literal_column("id DESC")], unique=False
    )
    op.create_index(
        "ix_ci_jobs_runner_id", "ci_jobs", ["runner_id", sa.literal_column("id DESC")], unique=False
    )
    op.create_index(op.f("ix_ci_jobs_runner_manager_id"), "ci_jobs", ["runner_manager_id"], unique=False)
    op.create_index(
        "ix_ci_jobs_unprocessed",
        "ci_jobs",
        ["pipeline_id"],
        unique=False,
        postgresql_where=sa.text("NOT is_processed"),
    )
    op.create_index(op.f("ix_ci_jobs_user_id"), "ci_jobs", ["user_id"], unique=False)
    op.create_table(
        "ci_pipeline_variables",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("pipeline_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("variable_type", sa.String(), server_default="env_var", nullable=False),
        sa.Column("is_raw", sa.Boolean(), server_default="false", nullable=False),
        sa.ForeignKeyConstraint(
            ["pipeline_id"],
            ["ci_pipelines.id"],
            name=op.f("fk_ci_pipeline_variables_pipeline_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ci_pipeline_variables")),
    )
    op.create_index(
        op.f("ix_ci_pipeline_variables_pipeline_id"), "ci_pipeline_variables", ["pipeline_id"], unique=False
    )
    op.create_table(
        "ci_job_artifacts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("file_type", sa.String(), nullable=False),
        sa.Column("file_format", sa.String(), nullable=False),
        sa.Column("filename", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("expire_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["ci_jobs.id"], name=op.f("fk_ci_job_artifacts_job_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_ci_job_artifacts_project_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ci_job_artifacts")),
        sa.UniqueConstraint("job_id", "file_type", name=op.f("uq_ci_job_artifacts_job_id_file_type")),
    )
    op.create_index(
        "ix_ci_job_artifacts_expire_at",
        "ci_job_artifacts",
        ["expire_at"],
        unique=False,
        postgresql_where=sa.text("expire_at IS NOT NULL"),
    )
    op.create_index(op.f("ix_ci_job_artifacts_project_id"), "ci_job_artifacts", ["project_id"], unique=False)
    op.create_table(
        "ci_job_variables",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["ci_jobs.id"], name=op.f("fk_ci_job_variables_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ci_job_variables")),
        sa.UniqueConstraint("job_id", "key", name=op.f("uq_ci_job_variables_job_id_key")),
    )
    op.execute(_TRIGGERS)


def downgrade() -> None:
    op.drop_table("ci_job_variables")
    op.drop_index(op.f("ix_ci_job_artifacts_project_id"), table_name="ci_job_artifacts")
    op.drop_index(
        "ix_ci_job_artifacts_expire_at",
        table_name="ci_job_artifacts",
        postgresql_where=sa.text("expire_at IS NOT NULL"),
    )
    op.drop_table("ci_job_artifacts")
    op.drop_index(op.f("ix_ci_pipeline_variables_pipeline_id"), table_name="ci_pipeline_variables")
    op.drop_table("ci_pipeline_variables")
    op.drop_index(op.f("ix_ci_jobs_user_id"), table_name="ci_jobs")
    op.drop_index(
        "ix_ci_jobs_unprocessed", table_name="ci_jobs", postgresql_where=sa.text("NOT is_processed")
    )
    op.drop_index(op.f("ix_ci_jobs_runner_manager_id"), table_name="ci_jobs")
    op.drop_index("ix_ci_jobs_runner_id", table_name="ci_jobs")
    op.drop_index("ix_ci_jobs_project_id", table_name="ci_jobs")
    op.drop_index(op.f("ix_ci_jobs_pipeline_id"), table_name="ci_jobs")
    op.drop_index(
        "ix_ci_jobs_unfinished",
        table_name="ci_jobs",
        postgresql_where=sa.text("status IN ('pending', 'running', 'canceling', 'scheduled')"),
    )
    op.drop_table("ci_jobs")
    op.drop_table("ci_variables")
    op.drop_index(op.f("ix_ci_runner_projects_project_id"), table_name="ci_runner_projects")
    op.drop_table("ci_runner_projects")
    op.drop_table("ci_runner_managers")
    op.drop_table("ci_projects")
    op.drop_index(op.f("ix_ci_pipelines_user_id"), table_name="ci_pipelines")
    op.drop_index("ix_ci_pipelines_project_sha", table_name="ci_pipelines")
    op.drop_index("ix_ci_pipelines_project_ref", table_name="ci_pipelines")
    op.drop_table("ci_pipelines")
    op.drop_index(op.f("ix_ci_runners_namespace_id"), table_name="ci_runners")
    op.drop_index(op.f("ix_ci_runners_creator_id"), table_name="ci_runners")
    op.drop_table("ci_runners")
    op.drop_table("ci_instance")
    op.drop_table("ci_deleted_files")
    op.execute("DROP FUNCTION ci_remember_artifact()")
    op.execute("DROP FUNCTION ci_remember_trace()")
