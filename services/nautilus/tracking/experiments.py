# ruff: noqa: S608 — statements are put together of constants alone; every value is a parameter
"""MLflow's experiments: one for each project that tracking has met, with the project's number and path.

A name that a script gives is found as a project's full path, or as a project in the caller's own namespace. In a
job every name, and MLflow's default experiment "0", means the job's own project: so a script that calls
`mlflow.set_experiment("anything")` runs unchanged.
"""

from __future__ import annotations

import time
from typing import Any

from psycopg.types.json import Jsonb

from nautilus.core.identity import Identity
from nautilus.gitlab.port import Project
from nautilus.tracking.access import Access, no_such_experiment
from nautilus.tracking.entities import experiment_json
from nautilus.tracking.errors import AlreadyExists, InvalidParameter, NotFound, NotPermitted
from nautilus.tracking.filters import EXPERIMENTS, parse_filter, parse_order_by
from nautilus.tracking.pool import Connection, Pool
from nautilus.tracking.search import experiments_query, next_token, offset_of
from nautilus.tracking.validation import check_experiment_tag

DEFAULT_EXPERIMENT_ID = "0"
_COLUMNS = "id, name, created_ms, updated_ms, tags"


async def ensure_experiment(connection: Connection, project_id: int, path: str) -> bool:
    """Makes the project's experiment where there is none; keeps its name up to date. True when it was made."""
    now = now_ms()
    rows = await connection.execute(
        "INSERT INTO tracking_experiment AS old (id, name, created_ms, updated_ms) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (id) DO UPDATE SET name = excluded.name, updated_ms = excluded.updated_ms"
        " WHERE old.name <> excluded.name RETURNING xmax = 0",
        (project_id, path, now, now),
    )
    row = await rows.fetchone()
    return row is not None and bool(row[0])


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Experiments:
    """MLflow's experiment endpoints, without HTTP. Methods raise TrackingError."""

    def __init__(self, pool: Pool, access: Access) -> None:
        self._pool = pool
        self._access = access

    async def get(self, caller: Identity, experiment_id: str) -> dict[str, Any]:
        number = await self.number(caller, experiment_id)
        async with self._pool.connection() as connection:
            return await self._fetch(connection, number)

    async def get_by_name(self, caller: Identity, name: str) -> dict[str, Any]:
        number = await self._number_of_name(caller, name)
        async with self._pool.connection() as connection:
            return await self._fetch(connection, number)

    async def create(self, caller: Identity, name: str) -> str:
        """The number of a project's experiment, when nobody has asked for it before. Raises AlreadyExists."""
        if caller.job is not None:
            raise AlreadyExists(
                f"Experiment(name={name[:300]}) already exists: in a job it is the job's project."
            )
        project = await self._project_of_name(caller, name)
        if project is None:
            raise NotFound(
                f"There is no project '{name[:300]}'. In Nautilus an experiment is a project: name one by its full"
                " path (group/project), or make it first (`nautilus` pages, or POST /api/v1/projects)."
            )
        await self._access.check_experiment(caller, project.id)
        async with self._pool.connection() as connection:
            if not await ensure_experiment(connection, project.id, project.path_with_namespace):
                raise AlreadyExists(f"Experiment(name={name[:300]}) already exists.")
        return str(project.id)

    async def search(
        self,
        caller: Identity,
        filter_string: str | None,
        order_by: list[str],
        max_results: int,
        token: str | None,
    ) -> dict[str, Any]:
        comparisons = parse_filter(filter_string, EXPERIMENTS)
        orderings = parse_order_by(order_by, EXPERIMENTS)
        visible = await self._access.visible_projects(caller)
        offset = offset_of(token)
        statement = experiments_query(sorted(visible), comparisons, orderings, max_results + 1, offset)
        async with self._pool.connection() as connection:
            rows = await (await connection.execute(*statement)).fetchall()
        answer: dict[str, Any] = {"experiments": [experiment_json(row) for row in rows[:max_results]]}
        if len(rows) > max_results:
            answer["next_page_token"] = next_token(offset + max_results)
        return answer

    async def set_tag(self, caller: Identity, experiment_id: str, key: str, value: str) -> None:
        key, value = check_experiment_tag(key, value)
        number = await self._writable(caller, experiment_id)
        async with self._pool.connection() as connection:
            await connection.execute(
                "UPDATE tracking_experiment SET tags = tags || %s, updated_ms = %s WHERE id = %s",
                (Jsonb({key: value}), now_ms(), number),
            )

    async def delete_tag(self, caller: Identity, experiment_id: str, key: str) -> None:
        number = await self._writable(caller, experiment_id)
        async with self._pool.connection() as connection:
            done = await connection.execute(
                "UPDATE tracking_experiment SET tags = tags - %s, updated_ms = %s WHERE id = %s AND tags ? %s",
                (key, now_ms(), number, key),
            )
        if done.rowcount == 0:
            raise NotFound(f"No tag with name: {key[:300]} in experiment with id {number}")

    async def refuse_change(self, caller: Identity, experiment_id: str) -> None:
        """An experiment lives and dies with its project. Always raises."""
        await self.number(caller, experiment_id)
        raise NotPermitted(
            "In Nautilus an experiment is a project: rename, delete or restore the project instead (its runs stay"
            " with it)."
        )

    async def number(self, caller: Identity, experiment_id: str) -> int:
        """The project behind an experiment id, its experiment made where it is missing. Raises NotFound."""
        if experiment_id == DEFAULT_EXPERIMENT_ID:
            if caller.job is None:
                raise InvalidParameter(
                    "No experiment was chosen. In Nautilus an experiment is a project: call"
                    " mlflow.set_experiment('group/project'), or set MLFLOW_EXPERIMENT_NAME."
                )
            experiment_id = str(caller.job.project_id)
        if not experiment_id.isdecimal() or not experiment_id.isascii():
            raise InvalidParameter(
                f"Invalid experiment ID '{experiment_id[:300]}'. Experiment ID must be a valid integer."
            )
        if len(experiment_id) > 18:
            raise no_such_experiment(experiment_id)
        number = int(experiment_id)
        await self._access.check_experiment(caller, number)
        await self._ensure(caller, number)
        return number

    async def _ensure(self, caller: Identity, number: int) -> None:
        async with self._pool.connection() as connection:
            rows = await connection.execute("SELECT 1 FROM tracking_experiment WHERE id = %s", (number,))
            if await rows.fetchone() is not None:
                return
        path = await self._path(caller, number)
        async with self._pool.connection() as connection:
            await ensure_experiment(connection, number, path)

    async def _path(self, caller: Identity, number: int) -> str:
        """A job's token cannot ask for its project's path: the number stands in until somebody else asks."""
        project = None if caller.is_job else await self._access.project(caller, number)
        return project.path_with_namespace if project is not None else str(number)

    async def _writable(self, caller: Identity, experiment_id: str) -> int:
        number = await self.number(caller, experiment_id)
        await self._access.check_experiment(caller, number, to_write=True)
        return number

    async def _number_of_name(self, caller: Identity, name: str) -> int:
        if caller.job is not None:
            return await self.number(caller, DEFAULT_EXPERIMENT_ID)
        project = await self._project_of_name(caller, name)
        if project is None or not (await self._access.rights(caller, project.id)).can_read:
            raise NotFound(f"Could not find experiment with name '{name[:300]}'")
        async with self._pool.connection() as connection:
            await ensure_experiment(connection, project.id, project.path_with_namespace)
        return project.id

    async def _project_of_name(self, caller: Identity, name: str) -> Project | None:
        """The caller's project of this full path, or of this name in their own namespace."""
        path = name.strip("/")
        if not path or len(path) > 1000 or any(character in path for character in "?#%\\"):
            return None
        if "/" not in path:
            path = f"{caller.username}/{path}"
        return await self._access.project(caller, path)

    async def _fetch(self, connection: Connection, number: int) -> dict[str, Any]:
        rows = await connection.execute(
            f"SELECT {_COLUMNS} FROM tracking_experiment WHERE id = %s", (number,)
        )
        row = await rows.fetchone()
        if row is None:
            raise no_such_experiment(str(number))
        return experiment_json(row)
