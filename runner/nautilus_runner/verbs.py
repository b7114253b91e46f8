"""What commands may ask of the running service (control_socket.py), by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from nautilus_runner.live.verbs import live_verbs

if TYPE_CHECKING:
    from nautilus_runner.agent import Agent
    from nautilus_runner.control_socket import Answer, Verb

_LOOK_EVERY_S = 5.0


def verbs_of(agent: Agent) -> dict[str, Verb]:
    """All verbs of this service. A part that has its own adds a line here."""

    async def status(_fields: Mapping[str, Any]) -> Answer:
        return agent.status().as_json()

    async def drain(fields: Mapping[str, Any]) -> AsyncIterator[Answer]:
        """`undo` takes jobs again, `preempt` gives those at work back; `wait` answers each time that the jobs at
        work change, until there are none."""
        await agent.drain(is_undone=bool(fields.get("undo")))
        if fields.get("preempt"):
            agent.preempt_all()
        yield agent.status().as_json()
        while fields.get("wait") and agent.is_draining and not agent.is_idle:
            await agent.until_change(_LOOK_EVERY_S)
            yield agent.status().as_json()

    async def preempt(fields: Mapping[str, Any]) -> Answer:
        """`jobs`: their ids."""
        ids = fields.get("jobs") or []
        for job_id in ids:
            agent.preempt(int(job_id))
        return {"jobs": ids}

    async def prune(fields: Mapping[str, Any]) -> Answer:
        """`all`: everything that no job uses; `dry_run`: only say what would go."""
        return await agent.prune(is_all=bool(fields.get("all")), is_dry=bool(fields.get("dry_run")))

    return {"status": status, "drain": drain, "preempt": preempt, "prune": prune, **live_verbs(agent)}
