"""What the read-only role of PostgreSQL sees: views in the schema `reading`, and nothing else.

Views rather than grants on tables: they are the contract with dashboards and notebooks
(docs/how-to/read-the-database.md), so tables may change, and a column is hidden until it is chosen. A test
holds them against the tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psycopg

ROLE = "nautilus_read"
SCHEMA = "reading"
DATABASE = "nautilus"
CONNECTIONS = 8
"""At a time, of the 60 that the server takes."""
STATEMENT_TIMEOUT_S = 60

VIEWS: dict[str, str] = {
    "experiments": """
        select id, mlflow_run_id as run_id, project_id, project_path, sweep_id, rerun_of, name, user_id, username, ref,
               commit_sha, command, params, image, resources, seed, tags, state, reason, created_at, started_at,
               finished_at, pipeline_id, job_id, job_url
        from public.experiments""",
    "sweeps": "select id, project_id, user_id, size, created_at from public.sweeps",
    "mlflow_experiments": """
        select id, name, to_timestamp(created_ms / 1000.0) as created_at,
               to_timestamp(updated_ms / 1000.0) as updated_at, tags
        from public.tracking_experiment""",
    "runs": """
        select r.run_id, r.experiment_id, parent.run_id as made_by_run_id, r.name, r.user_name,
               (array['RUNNING', 'SCHEDULED', 'FINISHED', 'FAILED', 'KILLED'])[r.status] as status,
               to_timestamp(r.start_time_ms / 1000.0) as started_at, to_timestamp(r.end_time_ms / 1000.0) as ended_at,
               r.deleted_at
        from public.tracking_run r left join public.tracking_run parent on parent.id = r.made_by_run""",
    "metrics": """
        select r.run_id, k.name as key, m.step, to_timestamp(m.timestamp_ms / 1000.0) as logged_at, m.value
        from public.tracking_metric m
        join public.tracking_run r on r.id = m.run join public.tracking_metric_key k on k.id = m.key""",
    "latest_metrics": """
        select r.run_id, k.name as key, m.step, to_timestamp(m.timestamp_ms / 1000.0) as logged_at, m.value
        from public.tracking_latest_metric m
        join public.tracking_run r on r.id = m.run join public.tracking_metric_key k on k.id = m.key""",
    "params": """
        select r.run_id, p.key, p.value
        from public.tracking_param p join public.tracking_run r on r.id = p.run""",
    "tags": """
        select r.run_id, t.key, t.value from public.tracking_tag t join public.tracking_run r on r.id = t.run""",
    "datasets": """
        select id, experiment_id, name, digest, source_type, source, schema, profile from public.tracking_dataset""",
    "inputs": """
        select r.run_id, i.dataset as dataset_id, i.tags
        from public.tracking_input i join public.tracking_run r on r.id = i.run""",
    "models": """
        select m.model_id, m.experiment_id, r.run_id as source_run_id, m.name, m.model_type, m.status,
               to_timestamp(m.created_ms / 1000.0) as created_at, to_timestamp(m.updated_ms / 1000.0) as updated_at,
               m.deleted_at, m.params, m.tags
        from public.tracking_model m left join public.tracking_run r on r.id = m.source_run""",
    "model_links": """
        select r.run_id, m.model_id, l.is_output, l.step
        from public.tracking_model_link l
        join public.tracking_run r on r.id = l.run join public.tracking_model m on m.id = l.model""",
    "model_metrics": """
        select m.model_id, k.name as key, r.run_id, mm.step, to_timestamp(mm.timestamp_ms / 1000.0) as logged_at,
               mm.value, mm.dataset_name, mm.dataset_digest
        from public.tracking_model_metric mm
        join public.tracking_model m on m.id = mm.model join public.tracking_run r on r.id = mm.run
        join public.tracking_metric_key k on k.id = mm.key""",
}
"""Name of each view → its query."""

HIDDEN_TABLES = frozenset({"alembic_version", "web_sessions"})
HIDDEN_COLUMNS = {
    "experiments": {"env", "ci_config_path", "artifact_paths", "cancel_requested_at", "launch_started_at"}
    | {"run_sha", "launched_at", "closed_at", "preempt_requested_at", "retry"}
}
"""What no view shows: sessions with their tokens, the jobs' environment (people put secrets there), inner workings."""

_WRITERS = (
    "lo_creat(integer)",
    "lo_create(oid)",
    "lo_from_bytea(oid, bytea)",
    "lo_import(text)",
    "lo_import(text, oid)",
)
"""Functions by which anybody could fill the disk with large objects."""


def ensure_reading(connection: psycopg.Connection, password: str) -> None:
    """The role with its password and bounds, and the views; in one transaction. As the owner, in DATABASE."""
    from psycopg import sql

    role, schema, database = map(sql.Identifier, (ROLE, SCHEMA, connection.info.dbname))
    with connection.transaction():
        drop_reading(connection)
        if not connection.execute("select from pg_roles where rolname = %s", (ROLE,)).fetchall():
            connection.execute(sql.SQL("create role {}").format(role))
        bounds = (
            "alter role {} with login nosuperuser nocreatedb nocreaterole noreplication nobypassrls noinherit"
            " connection limit {}"
        )
        connection.execute(sql.SQL(bounds).format(role, sql.Literal(CONNECTIONS)))
        _set_verifier(connection, password)
        for name, value in _role_settings().items():
            connection.execute(
                sql.SQL("alter role {} set {} = {}").format(role, sql.Identifier(name), sql.Literal(value))
            )
        connection.execute(sql.SQL("revoke temporary on database {} from public").format(database))
        for function in _WRITERS:
            connection.execute(f"revoke execute on function pg_catalog.{function} from public")
        connection.execute(sql.SQL("create schema {}").format(schema))
        for name, query in VIEWS.items():
            connection.execute(
                sql.SQL("create view {} as ").format(sql.Identifier(SCHEMA, name)) + sql.SQL(query)
            )
        connection.execute(sql.SQL("grant usage on schema {} to {}").format(schema, role))
        connection.execute(sql.SQL("grant select on all tables in schema {} to {}").format(schema, role))


def set_password(connection: psycopg.Connection, password: str) -> None:
    """Another password; whoever is connected by the old one is sent away."""
    with connection.transaction():
        _set_verifier(connection, password)
    connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = %s", (ROLE,))


def drop_reading(connection: psycopg.Connection) -> None:
    """No view stands in the way of a migration, and none is left when the access is switched off."""
    connection.execute(f"drop schema if exists {SCHEMA} cascade")


def shut_reading(connection: psycopg.Connection) -> None:
    """Access is off: no view, and a role, if there is one, that cannot sign in."""
    with connection.transaction():
        drop_reading(connection)
        if connection.execute("select from pg_roles where rolname = %s and rolcanlogin", (ROLE,)).fetchall():
            connection.execute(f"alter role {ROLE} with nologin password null")


def _set_verifier(connection: psycopg.Connection, password: str) -> None:
    """The server sees (and may log) only what the password is checked with, never the password."""
    from psycopg import sql

    verifier = connection.pgconn.encrypt_password(password.encode(), ROLE.encode(), b"scram-sha-256")
    statement = sql.SQL("alter role {} with password {}")
    connection.execute(statement.format(sql.Identifier(ROLE), sql.Literal(verifier.decode())))


def _role_settings() -> dict[str, str]:
    """Of each session from its start. A guard against accidents; what it may not do, the lack of grants forbids."""
    return {
        "search_path": SCHEMA,
        "default_transaction_read_only": "on",
        "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
        "idle_in_transaction_session_timeout": "60s",
        "temp_file_limit": "1GB",
    }
