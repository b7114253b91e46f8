"""A runner's proof of who it is: its authentication token; and the machine (manager) that speaks for it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from nautilus_forge.errors import InvalidParams
from nautilus_forge.jobs.board import Wants
from nautilus_forge.runners.errors import UnknownRunner
from nautilus_forge.tokens import secret

REGISTRATION_TOKEN = "GR1348941"  # noqa: S105 — a prefix
CREATED_TOKEN = "glrt-"  # noqa: S105
REGISTERED_TOKEN = "glrtr-"  # noqa: S105

_BELIEVED_S = 300.0
_GROUP_BELIEVED_S = 10.0
"""A group's runner serves projects that come and go without news of it."""
_RUNNER = text(
    """
    SELECT r.id, r.runner_type, r.is_active, r.tags, r.run_untagged, r.access_level, r.token_expires_at,
           r.maximum_timeout_s, r.description,
           CASE r.runner_type
               WHEN 'project_type' THEN ARRAY(
                   SELECT rp.project_id FROM ci_runner_projects rp WHERE rp.runner_id = r.id)
               WHEN 'group_type' THEN ARRAY(
                   SELECT p.id FROM projects p JOIN namespaces n ON n.id = p.namespace_id
                   WHERE n.traversal_ids @> ARRAY[r.namespace_id] AND p.deleted_at IS NULL)
           END AS project_ids
    FROM ci_runners r WHERE r.token_digest = :digest
    """
)
_MANAGER = text(
    """
    INSERT INTO ci_runner_managers AS m
        (runner_id, system_id, version, revision, platform, architecture, executor, ip_address, config, contacted_at)
    VALUES (:runner, :system, :version, :revision, :platform, :architecture, :executor, :ip,
            CAST(:config AS jsonb), now())
    ON CONFLICT (runner_id, system_id) DO UPDATE SET
        version = coalesce(excluded.version, m.version), revision = coalesce(excluded.revision, m.revision),
        platform = coalesce(excluded.platform, m.platform),
        architecture = coalesce(excluded.architecture, m.architecture),
        executor = coalesce(excluded.executor, m.executor), ip_address = excluded.ip_address,
        config = excluded.config, contacted_at = now()
    RETURNING id
    """
)
_RUNNER_INFO = text(
    """
    UPDATE ci_runners SET contacted_at = now(), ip_address = :ip, name = coalesce(:name, name),
        version = coalesce(:version, version), revision = coalesce(:revision, revision),
        platform = coalesce(:platform, platform), architecture = coalesce(:architecture, architecture)
    WHERE id = :runner
    """
)
_INFO = ("name", "version", "revision", "platform", "architecture", "executor")
_LONGEST_INFO = 255


@dataclass(frozen=True)
class RunnerIdentity:
    """A runner as far as requests for jobs need it."""

    id: int
    runner_type: str
    description: str | None
    is_active: bool
    maximum_timeout_s: int | None
    token_expires_at: datetime | None
    wants: Wants

    @property
    def is_expired(self) -> bool:
        return self.token_expires_at is not None and self.token_expires_at <= datetime.now(UTC)


@dataclass
class KnownRunners:
    """Runners by digest of their token, and managers by runner and system id.

    Believed until news say that the runner changed, at most for `_BELIEVED_S`.
    """

    _runners: dict[bytes, tuple[float, RunnerIdentity]] = field(default_factory=dict)
    _managers: dict[tuple[int, str], tuple[int, int]] = field(default_factory=dict)

    def get(self, digest: bytes) -> RunnerIdentity | None:
        at, runner = self._runners.get(digest, (0.0, None))
        if runner is None:
            return None
        believed_s = _GROUP_BELIEVED_S if runner.runner_type == "group_type" else _BELIEVED_S
        return runner if time.monotonic() - at < believed_s else None

    def put(self, digest: bytes, runner: RunnerIdentity) -> None:
        if len(self._runners) > 10_000:
            self._runners.clear()
        self._runners[digest] = (time.monotonic(), runner)

    def forget(self, runner_id: int) -> None:
        self._runners = {k: v for k, v in self._runners.items() if v[1].id != runner_id}
        self._managers = {k: v for k, v in self._managers.items() if k[0] != runner_id}

    def forget_all(self) -> None:
        self._runners.clear()
        self._managers.clear()

    def manager(self, runner_id: int, system_id: str, told: int) -> int | None:
        """Id of a manager that said `told` (a hash) the last time too."""
        known = self._managers.get((runner_id, system_id))
        return known[0] if known is not None and known[1] == told else None

    def put_manager(self, runner_id: int, system_id: str, told: int, manager_id: int) -> None:
        if len(self._managers) > 10_000:
            self._managers.clear()
        self._managers[(runner_id, system_id)] = (manager_id, told)


def runner_token(request: Request, params: Mapping[str, Any]) -> str:
    """Parameter `token`, or the header that newer runners send. Raises `InvalidParams`."""
    token = params.get("token") or request.headers.get("runner-token")
    if not isinstance(token, str) or not token:
        raise InvalidParams("token is missing")
    return token


async def find_runner(db: AsyncSession, token: str) -> RunnerIdentity:
    """The runner that the token belongs to. Raises `UnknownRunner`."""
    row = (await db.execute(_RUNNER, {"digest": secret.digest(token)})).first()
    if row is None:
        raise UnknownRunner
    runner = RunnerIdentity(
        id=row.id,
        runner_type=row.runner_type,
        description=row.description,
        is_active=row.is_active,
        maximum_timeout_s=row.maximum_timeout_s,
        token_expires_at=row.token_expires_at,
        wants=Wants(
            runner_id=row.id,
            tags=frozenset(row.tags),
            run_untagged=row.run_untagged,
            only_protected=row.access_level == "ref_protected",
            project_ids=frozenset(row.project_ids) if row.project_ids is not None else None,
            is_paused=not row.is_active,
        ),
    )
    if runner.is_expired:
        raise UnknownRunner
    return runner


def address_of(request: Request) -> str:
    """The client's address: what the gateway says, else the connection's."""
    forwarded = request.headers.get("x-forwarded-for", "").split(",")[0].strip()
    return (forwarded or (request.client.host if request.client else ""))[:64]


def info_of(params: Mapping[str, Any]) -> dict[str, str | None]:
    """What a runner tells of itself in `info`; what is no text, or too long, is left out."""
    info = params.get("info")
    info = info if isinstance(info, Mapping) else {}
    return {
        key: info[key] if isinstance(info.get(key), str) and len(info[key]) <= _LONGEST_INFO else None
        for key in _INFO
    }


async def note_runner(db: AsyncSession, runner_id: int, params: Mapping[str, Any], ip: str) -> int | None:
    """Stores what the runner tells of itself, and that it was in contact; its manager's id where it names one."""
    info = info_of(params)
    values = {"runner": runner_id, "ip": ip, **info}
    del values["executor"]
    await db.execute(_RUNNER_INFO, values)
    system_id = params.get("system_id")
    if not isinstance(system_id, str) or not 0 < len(system_id) <= 64:
        return None
    config = params["info"].get("config") if isinstance(params.get("info"), Mapping) else None
    gpus = config.get("gpus") if isinstance(config, Mapping) else None
    stored = {"gpus": gpus} if isinstance(gpus, str) else {}
    manager: int = (
        await db.execute(
            _MANAGER,
            {
                "runner": runner_id,
                "system": system_id,
                "ip": ip,
                "config": orjson.dumps(stored).decode(),
                **{key: value for key, value in info.items() if key != "name"},
            },
        )
    ).scalar_one()
    return manager
