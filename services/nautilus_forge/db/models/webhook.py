"""Webhooks, what is still to be sent to them, what was sent; and the feed of events.

Source: GitLab's tables web_hooks, web_hook_logs, events, push_event_payloads.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, Text, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID
from sqlalchemy.orm import Mapped, mapped_column

from nautilus_forge.db.base import Base, CreatedAt, IdentityKey


def _hook() -> Mapped[Any]:
    return mapped_column(BigInteger, ForeignKey("web_hooks.id", ondelete="CASCADE"))


def _project(*, index: bool = False) -> Mapped[Any]:
    return mapped_column(BigInteger, ForeignKey("projects.id", ondelete="CASCADE"), index=index)


def _random_uuid() -> Mapped[str]:
    return mapped_column(UUID(as_uuid=False), server_default=func.gen_random_uuid())


class WebHook(Base):
    """A project's hook; without `project_id` one of the whole instance (a system hook).

    `events`: the names of the flags that are on (`push_events`, …). `url`, `token`, `url_variables`, `custom_headers`
    are encrypted (`variables.cipher`; the last two as JSON objects). `branch_filter_strategy`: wildcard, regex,
    all_branches. `recent_failures`: in a row; `disabled_until`: nothing is sent before.
    """

    __tablename__ = "web_hooks"

    id: Mapped[IdentityKey]
    project_id: Mapped[int | None] = _project(index=True)
    url: Mapped[bytes] = mapped_column(LargeBinary)
    name: Mapped[str | None]
    description: Mapped[str | None]
    token: Mapped[bytes | None] = mapped_column(LargeBinary)
    url_variables: Mapped[bytes | None] = mapped_column(LargeBinary)
    custom_headers: Mapped[bytes | None] = mapped_column(LargeBinary)
    events: Mapped[list[str]] = mapped_column(ARRAY(Text), default=list, server_default=text("'{}'"))
    enable_ssl_verification: Mapped[bool] = mapped_column(default=True, server_default="true")
    push_events_branch_filter: Mapped[str | None]
    branch_filter_strategy: Mapped[str] = mapped_column(default="wildcard", server_default="wildcard")
    custom_webhook_template: Mapped[str | None]
    recent_failures: Mapped[int] = mapped_column(default=0, server_default="0")
    disabled_until: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]


class WebhookEvent(Base):
    """The outbox: something happened that a hook wanted to know when it did. `trigger`: push_hooks, job_hooks, …

    Written in the transaction in which it happened (by triggers of the database, and by `webhooks.outbox`), deleted
    in the one that makes its deliveries. `facts`: what its payload is made of. No project: for system hooks alone.
    """

    __tablename__ = "webhook_events"

    id: Mapped[IdentityKey]
    uuid: Mapped[str] = _random_uuid()
    project_id: Mapped[int | None] = _project(index=True)
    trigger: Mapped[str]
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    created_at: Mapped[CreatedAt]


class WebhookDelivery(Base):
    """A payload (JSON) that a hook has not taken yet; the row goes when it has, or when it never will.

    `event_uuid`, `webhook_uuid`, `idempotency_key` are the same in each try. `due_at`: not tried before.
    """

    __tablename__ = "webhook_deliveries"

    id: Mapped[IdentityKey]
    hook_id: Mapped[int] = _hook()
    event_uuid: Mapped[str] = mapped_column(UUID(as_uuid=False))
    webhook_uuid: Mapped[str] = _random_uuid()
    idempotency_key: Mapped[str] = _random_uuid()
    trigger: Mapped[str]
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    failures: Mapped[int] = mapped_column(default=0, server_default="0")
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        UniqueConstraint("hook_id", "event_uuid"),
        Index("ix_webhook_deliveries_due_at", "due_at"),
    )


class WebHookLog(Base):
    """One try: what was sent (without secrets) and what came back. `response_status`: "internal error" for nothing."""

    __tablename__ = "web_hook_logs"

    id: Mapped[IdentityKey]
    hook_id: Mapped[int] = _hook()
    url: Mapped[str]
    """The hook's own, its variables not filled in, without credentials."""
    trigger: Mapped[str]
    request_headers: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    request_data: Mapped[bytes] = mapped_column(LargeBinary)
    response_headers: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    response_body: Mapped[str] = mapped_column(default="", server_default="")
    response_status: Mapped[str]
    internal_error_message: Mapped[str | None]
    execution_duration: Mapped[float]
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        Index("ix_web_hook_logs_hook_id", "hook_id", text("id DESC")),
        Index("ix_web_hook_logs_created_at", "created_at"),
    )


class Event(Base):
    """Who did what in a project. `action`: as GitLab's filter names it (created, pushed, commented, joined, …).

    `target`: what `target_id` names: merge_request, merge_request_note, commit_note; None: the project itself.
    """

    __tablename__ = "events"

    id: Mapped[IdentityKey]
    project_id: Mapped[int | None] = _project()
    author_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"))
    action: Mapped[str]
    target: Mapped[str | None]
    target_id: Mapped[int | None] = mapped_column(BigInteger)
    push_data: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        Index("ix_events_project_id", "project_id", text("id DESC")),
        Index("ix_events_author_id", "author_id", text("id DESC")),
        Index("ix_events_created_at", "created_at"),
        Index("ix_events_target", "target", "target_id"),
    )
