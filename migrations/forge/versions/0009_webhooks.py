"""Webhooks, the outbox that they are fed from, what was sent; and the feed of events.

The outbox is written by the database itself where jobs, pipelines, deployments, projects, groups, users, members and
keys change, so that no statement can forget it, in the same transaction, and only where a hook wants it.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_TELL = """
CREATE FUNCTION tell_webhooks(of_project bigint, wanted text, told text, said jsonb) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM web_hooks
               WHERE (project_id = of_project OR project_id IS NULL) AND wanted = ANY(events)) THEN
        INSERT INTO webhook_events (project_id, trigger, facts) VALUES (of_project, told, said);
        PERFORM pg_notify('forge_ci', '["hooks"]');
    END IF;
END $$;

CREATE FUNCTION tell_system_hooks(said jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM web_hooks WHERE project_id IS NULL) THEN
        INSERT INTO webhook_events (project_id, trigger, facts) VALUES (NULL, 'system_hooks', said);
        PERFORM pg_notify('forge_ci', '["hooks"]');
    END IF;
END $$;
"""

_CI = """
CREATE FUNCTION tell_of_new_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    job record;
BEGIN
    FOR job IN
        UPDATE ci_jobs SET has_hooks = true WHERE id IN (
            SELECT n.id FROM new_jobs n JOIN web_hooks h ON h.project_id = n.project_id
            WHERE 'job_events' = ANY(h.events) AND NOT n.is_external)
        RETURNING id, project_id, status
    LOOP
        PERFORM tell_webhooks(job.project_id, 'job_events', 'job_hooks',
            jsonb_build_object('id', job.id, 'status', job.status));
    END LOOP;
    RETURN NULL;
END $$;

CREATE TRIGGER ci_jobs_told_when_made AFTER INSERT ON ci_jobs REFERENCING NEW TABLE AS new_jobs
    FOR EACH STATEMENT EXECUTE FUNCTION tell_of_new_jobs();

CREATE FUNCTION tell_of_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tell_webhooks(NEW.project_id, 'job_events', 'job_hooks',
        jsonb_build_object('id', NEW.id, 'status', NEW.status));
    RETURN NULL;
END $$;

CREATE TRIGGER ci_jobs_told AFTER UPDATE OF status ON ci_jobs
    FOR EACH ROW WHEN (NEW.has_hooks AND OLD.status <> NEW.status) EXECUTE FUNCTION tell_of_job();

CREATE FUNCTION mark_jobs_of_hook() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE ci_jobs SET has_hooks = true WHERE id IN (
        SELECT id FROM ci_jobs
        WHERE project_id = NEW.project_id AND NOT has_hooks AND NOT is_external
          AND status NOT IN ('success', 'failed', 'canceled', 'skipped')
        FOR NO KEY UPDATE SKIP LOCKED);
    RETURN NULL;
END $$;

CREATE TRIGGER web_hooks_mark_jobs AFTER INSERT OR UPDATE OF events ON web_hooks
    FOR EACH ROW WHEN ('job_events' = ANY(NEW.events)) EXECUTE FUNCTION mark_jobs_of_hook();

CREATE FUNCTION tell_of_pipeline() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tell_webhooks(NEW.project_id, 'pipeline_events', 'pipeline_hooks',
        jsonb_build_object('id', NEW.id, 'status', NEW.status));
    RETURN NULL;
END $$;

CREATE TRIGGER ci_pipelines_told_when_made AFTER INSERT ON ci_pipelines
    FOR EACH ROW WHEN (NEW.status <> 'created') EXECUTE FUNCTION tell_of_pipeline();
CREATE TRIGGER ci_pipelines_told AFTER UPDATE OF status ON ci_pipelines
    FOR EACH ROW WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION tell_of_pipeline();

CREATE FUNCTION tell_of_deployment() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tell_webhooks(NEW.project_id, 'deployment_events', 'deployment_hooks',
        jsonb_build_object('id', NEW.id, 'status', NEW.status, 'at', now()));
    RETURN NULL;
END $$;

CREATE TRIGGER deployments_told_when_made AFTER INSERT ON deployments
    FOR EACH ROW WHEN (NEW.status IN ('running', 'success', 'failed', 'canceled'))
    EXECUTE FUNCTION tell_of_deployment();
CREATE TRIGGER deployments_told AFTER UPDATE OF status ON deployments
    FOR EACH ROW WHEN (OLD.status <> NEW.status AND NEW.status IN ('running', 'success', 'failed', 'canceled'))
    EXECUTE FUNCTION tell_of_deployment();
"""

_SYSTEM = """
CREATE FUNCTION tell_of_project() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    now_is projects := NEW;
    happened text := 'project_update';
    old_path text;
BEGIN
    IF TG_OP = 'INSERT' THEN
        happened := 'project_create';
        IF NEW.creator_id IS NOT NULL THEN
            INSERT INTO events (project_id, author_id, action) VALUES (NEW.id, NEW.creator_id, 'created');
        END IF;
    ELSIF NEW.deleted_at IS NOT NULL THEN
        IF OLD.deleted_at IS NOT NULL THEN
            RETURN NULL;
        END IF;
        happened := 'project_destroy';
        now_is := OLD;
    ELSIF OLD.namespace_id <> NEW.namespace_id THEN
        happened := 'project_transfer';
    ELSIF OLD.path <> NEW.path THEN
        happened := 'project_rename';
    END IF;
    IF NOT EXISTS (SELECT FROM web_hooks WHERE project_id IS NULL) THEN
        RETURN NULL;
    END IF;
    IF happened IN ('project_rename', 'project_transfer') THEN
        old_path := (SELECT full_path FROM namespaces WHERE id = OLD.namespace_id) || '/' || OLD.path;
    END IF;
    PERFORM tell_system_hooks(jsonb_build_object('event_name', happened, 'project_id', NEW.id,
        'name', now_is.name, 'path', now_is.path, 'namespace_id', now_is.namespace_id,
        'visibility', now_is.visibility, 'created_at', now_is.created_at, 'updated_at', NEW.updated_at,
        'path_with_namespace',
        (SELECT full_path FROM namespaces WHERE id = now_is.namespace_id) || '/' || now_is.path,
        'old_path_with_namespace', old_path));
    RETURN NULL;
END $$;

CREATE TRIGGER projects_told_when_made AFTER INSERT ON projects
    FOR EACH ROW EXECUTE FUNCTION tell_of_project();
CREATE TRIGGER projects_told AFTER UPDATE OF
    name, path, namespace_id, description, visibility, topics, default_branch, is_archived, attributes, deleted_at
    ON projects FOR EACH ROW WHEN ((OLD.name, OLD.path, OLD.namespace_id, OLD.description, OLD.visibility,
        OLD.topics, OLD.default_branch, OLD.is_archived, OLD.attributes, OLD.deleted_at)
        IS DISTINCT FROM (NEW.name, NEW.path, NEW.namespace_id, NEW.description, NEW.visibility,
        NEW.topics, NEW.default_branch, NEW.is_archived, NEW.attributes, NEW.deleted_at))
    EXECUTE FUNCTION tell_of_project();

CREATE FUNCTION tell_of_group() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    now_is namespaces := NEW;
    happened text := 'group_rename';
    old_one jsonb := '{}';
BEGIN
    IF TG_OP = 'INSERT' THEN
        happened := 'group_create';
    ELSIF NEW.deleted_at IS NOT NULL THEN
        IF OLD.deleted_at IS NOT NULL THEN
            RETURN NULL;
        END IF;
        happened := 'group_destroy';
        now_is := OLD;
    ELSE
        old_one := jsonb_build_object('old_path', OLD.path, 'old_full_path', OLD.full_path);
    END IF;
    PERFORM tell_system_hooks(jsonb_build_object('event_name', happened, 'group_id', NEW.id,
        'name', now_is.name, 'path', now_is.path, 'full_path', now_is.full_path,
        'created_at', now_is.created_at, 'updated_at', NEW.updated_at) || old_one);
    RETURN NULL;
END $$;

CREATE TRIGGER namespaces_told_when_made AFTER INSERT ON namespaces
    FOR EACH ROW WHEN (NEW.kind = 'group') EXECUTE FUNCTION tell_of_group();
CREATE TRIGGER namespaces_told AFTER UPDATE OF path, deleted_at ON namespaces
    FOR EACH ROW WHEN (NEW.kind = 'group' AND (OLD.path, OLD.deleted_at) IS DISTINCT FROM (NEW.path, NEW.deleted_at))
    EXECUTE FUNCTION tell_of_group();

CREATE FUNCTION tell_of_user() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    now_is users := coalesce(NEW, OLD);
    happened text := CASE TG_OP WHEN 'INSERT' THEN 'user_create' WHEN 'DELETE' THEN 'user_destroy'
        ELSE 'user_rename' END;
    old_one jsonb := '{}';
BEGIN
    IF TG_OP = 'UPDATE' THEN
        old_one := jsonb_build_object('old_username', OLD.username);
    END IF;
    PERFORM tell_system_hooks(jsonb_build_object('event_name', happened, 'user_id', now_is.id,
        'name', now_is.name, 'email', now_is.email, 'username', now_is.username,
        'created_at', now_is.created_at, 'updated_at', now_is.updated_at) || old_one);
    RETURN NULL;
END $$;

CREATE TRIGGER users_told_when_made AFTER INSERT OR DELETE ON users
    FOR EACH ROW EXECUTE FUNCTION tell_of_user();
CREATE TRIGGER users_told AFTER UPDATE OF username ON users
    FOR EACH ROW WHEN (OLD.username <> NEW.username) EXECUTE FUNCTION tell_of_user();

CREATE FUNCTION tell_of_key() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    now_is keys := coalesce(NEW, OLD);
BEGIN
    PERFORM tell_system_hooks(jsonb_build_object(
        'event_name', CASE TG_OP WHEN 'INSERT' THEN 'key_create' ELSE 'key_destroy' END,
        'id', now_is.id, 'key', now_is.key, 'created_at', now_is.created_at, 'updated_at', now_is.created_at,
        'username', (SELECT username FROM users WHERE id = now_is.user_id)));
    RETURN NULL;
END $$;

CREATE TRIGGER keys_told AFTER INSERT OR DELETE ON keys FOR EACH ROW EXECUTE FUNCTION tell_of_key();

CREATE FUNCTION tell_of_member() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    now_is members := coalesce(NEW, OLD);
    expired boolean := TG_OP = 'DELETE' AND now_is.expires_at <= current_date;
    happened text := CASE TG_OP WHEN 'INSERT' THEN 'user_add_to_' WHEN 'DELETE' THEN 'user_remove_from_'
        ELSE 'user_update_for_' END;
BEGIN
    IF now_is.project_id IS NOT NULL AND TG_OP <> 'UPDATE' THEN
        INSERT INTO events (project_id, author_id, action)
        SELECT p.id, u.id, CASE WHEN TG_OP = 'INSERT' THEN 'joined' WHEN expired THEN 'expired' ELSE 'left' END
        FROM projects p JOIN namespaces n ON n.id = p.namespace_id, users u
        WHERE p.id = now_is.project_id AND u.id = now_is.user_id AND n.owner_id IS DISTINCT FROM u.id;
    END IF;
    IF NOT EXISTS (SELECT FROM web_hooks WHERE project_id IS NULL) THEN
        RETURN NULL;
    END IF;
    PERFORM tell_system_hooks(jsonb_build_object(
        'event_name', happened || CASE WHEN now_is.project_id IS NULL THEN 'group' ELSE 'team' END,
        'access_level', now_is.access_level, 'project_id', now_is.project_id, 'group_id', now_is.namespace_id,
        'user_id', now_is.user_id, 'created_at', now_is.created_at, 'updated_at', now()));
    RETURN NULL;
END $$;

CREATE TRIGGER members_told_when_made AFTER INSERT OR DELETE ON members
    FOR EACH ROW EXECUTE FUNCTION tell_of_member();
CREATE TRIGGER members_told AFTER UPDATE OF access_level, expires_at ON members
    FOR EACH ROW WHEN ((OLD.access_level, OLD.expires_at) IS DISTINCT FROM (NEW.access_level, NEW.expires_at))
    EXECUTE FUNCTION tell_of_member();
"""

_TRIGGERS = {
    "web_hooks": ("web_hooks_mark_jobs",),
    "ci_jobs": ("ci_jobs_told", "ci_jobs_told_when_made"),
    "ci_pipelines": ("ci_pipelines_told", "ci_pipelines_told_when_made"),
    "deployments": ("deployments_told", "deployments_told_when_made"),
    "projects": ("projects_told", "projects_told_when_made"),
    "namespaces": ("namespaces_told", "namespaces_told_when_made"),
    "users": ("users_told", "users_told_when_made"),
    "keys": ("keys_told",),
    "members": ("members_told", "members_told_when_made"),
}
_FUNCTIONS = (
    "tell_of_new_jobs()",
    "tell_of_job()",
    "mark_jobs_of_hook()",
    "tell_of_pipeline()",
    "tell_of_deployment()",
    "tell_of_project()",
    "tell_of_group()",
    "tell_of_user()",
    "tell_of_key()",
    "tell_of_member()",
    "tell_system_hooks(jsonb)",
    "tell_webhooks(bigint, text, text, jsonb)",
)


def _id() -> sa.Column[Any]:
    return sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False)


def _time(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)


def _jsonb(name: str, default: str | None = "'{}'") -> sa.Column[Any]:
    kind = postgresql.JSONB(astext_type=sa.Text())
    if default is None:
        return sa.Column(name, kind, nullable=True)
    return sa.Column(name, kind, server_default=sa.text(default), nullable=False)


def _uuid(name: str) -> sa.Column[Any]:
    return sa.Column(
        name, postgresql.UUID(as_uuid=False), server_default=sa.text("gen_random_uuid()"), nullable=False
    )


def _key(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [column], [f"{target}.id"], name=op.f(f"fk_{table}_{column}"), ondelete="CASCADE"
    )


def upgrade() -> None:
    _create_hooks()
    _create_outbox()
    _create_deliveries()
    _create_logs()
    _create_events()
    for name in ("refs_in_push", "place_in_push"):
        op.add_column("ref_updates", sa.Column(name, sa.Integer(), server_default="1", nullable=False))
    op.add_column("ci_jobs", sa.Column("has_hooks", sa.Boolean(), server_default="false", nullable=False))
    for statements in (_TELL, _CI, _SYSTEM):
        op.execute(statements)


def _create_hooks() -> None:
    table = "web_hooks"
    op.create_table(
        table,
        _id(),
        sa.Column("project_id", sa.BigInteger(), nullable=True),
        sa.Column("url", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column("token", sa.LargeBinary(), nullable=True),
        sa.Column("url_variables", sa.LargeBinary(), nullable=True),
        sa.Column("custom_headers", sa.LargeBinary(), nullable=True),
        sa.Column("events", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("enable_ssl_verification", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("push_events_branch_filter", sa.String(), nullable=True),
        sa.Column("branch_filter_strategy", sa.String(), server_default="wildcard", nullable=False),
        sa.Column("custom_webhook_template", sa.String(), nullable=True),
        sa.Column("recent_failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("disabled_until", sa.DateTime(timezone=True), nullable=True),
        _time("created_at"),
        _key(table, "project_id", "projects"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
    )
    op.create_index(op.f(f"ix_{table}_project_id"), table, ["project_id"])


def _create_outbox() -> None:
    table = "webhook_events"
    op.create_table(
        table,
        _id(),
        _uuid("uuid"),
        sa.Column("project_id", sa.BigInteger(), nullable=True),
        sa.Column("trigger", sa.String(), nullable=False),
        _jsonb("facts"),
        _time("created_at"),
        _key(table, "project_id", "projects"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
    )
    op.create_index(op.f(f"ix_{table}_project_id"), table, ["project_id"])


def _create_deliveries() -> None:
    table = "webhook_deliveries"
    op.create_table(
        table,
        _id(),
        sa.Column("hook_id", sa.BigInteger(), nullable=False),
        sa.Column("event_uuid", postgresql.UUID(as_uuid=False), nullable=False),
        _uuid("webhook_uuid"),
        _uuid("idempotency_key"),
        sa.Column("trigger", sa.String(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        _time("due_at"),
        _time("created_at"),
        _key(table, "hook_id", "web_hooks"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
        sa.UniqueConstraint("hook_id", "event_uuid", name=op.f(f"uq_{table}_hook_id_event_uuid")),
    )
    op.create_index(f"ix_{table}_due_at", table, ["due_at"])


def _create_logs() -> None:
    table = "web_hook_logs"
    op.create_table(
        table,
        _id(),
        sa.Column("hook_id", sa.BigInteger(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("trigger", sa.String(), nullable=False),
        _jsonb("request_headers"),
        sa.Column("request_data", sa.LargeBinary(), nullable=False),
        _jsonb("response_headers"),
        sa.Column("response_body", sa.String(), server_default="", nullable=False),
        sa.Column("response_status", sa.String(), nullable=False),
        sa.Column("internal_error_message", sa.String(), nullable=True),
        sa.Column("execution_duration", sa.Float(), nullable=False),
        _time("created_at"),
        _key(table, "hook_id", "web_hooks"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
    )
    op.create_index(f"ix_{table}_hook_id", table, ["hook_id", sa.text("id DESC")])
    op.create_index(f"ix_{table}_created_at", table, ["created_at"])


def _create_events() -> None:
    table = "events"
    op.create_table(
        table,
        _id(),
        sa.Column("project_id", sa.BigInteger(), nullable=True),
        sa.Column("author_id", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=True),
        sa.Column("target_id", sa.BigInteger(), nullable=True),
        _jsonb("push_data", None),
        _time("created_at"),
        _key(table, "project_id", "projects"),
        _key(table, "author_id", "users"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
    )
    op.create_index(f"ix_{table}_project_id", table, ["project_id", sa.text("id DESC")])
    op.create_index(f"ix_{table}_author_id", table, ["author_id", sa.text("id DESC")])
    op.create_index(f"ix_{table}_created_at", table, ["created_at"])
    op.create_index(f"ix_{table}_target", table, ["target", "target_id"])


def downgrade() -> None:
    for table, triggers in _TRIGGERS.items():
        for trigger in triggers:
            op.execute(f"DROP TRIGGER {trigger} ON {table}")
    for function in _FUNCTIONS:
        op.execute(f"DROP FUNCTION {function}")
    for name in ("refs_in_push", "place_in_push"):
        op.drop_column("ref_updates", name)
    op.drop_column("ci_jobs", "has_hooks")
    for table in ("events", "web_hook_logs", "webhook_deliveries", "webhook_events", "web_hooks"):
        op.drop_table(table)
