"""Hooks that fail are called less and less, and in the end no more.

Source: gitlabhq app/models/concerns/web_hooks/auto_disabling.rb. System hooks are never disabled.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from nautilus_forge.db.models import WebHook

FAILURES_BEFORE_BACKOFF = 3
FAILURES_BEFORE_DISABLED = 39
_FIRST_BACKOFF = timedelta(minutes=1)
_LONGEST_BACKOFF = timedelta(days=1)


def is_disabled(hook: WebHook) -> bool:
    """For good, until a test or a resent event succeeds."""
    return hook.project_id is not None and hook.recent_failures > FAILURES_BEFORE_DISABLED


def is_resting(hook: WebHook, now: datetime | None = None) -> bool:
    """Not called before `disabled_until`."""
    return (
        hook.project_id is not None
        and not is_disabled(hook)
        and hook.recent_failures > FAILURES_BEFORE_BACKOFF
        and hook.disabled_until is not None
        and hook.disabled_until >= (now or datetime.now(UTC))
    )


def alert_status(hook: WebHook) -> str:
    if is_disabled(hook):
        return "disabled"
    return "temporarily_disabled" if is_resting(hook) else "executable"


def note_success(hook: WebHook) -> None:
    hook.recent_failures = 0
    hook.disabled_until = None


def note_failure(hook: WebHook, now: datetime | None = None) -> None:
    """One more in a row; several that were under way at once count as one while the hook rests."""
    now = now or datetime.now(UTC)
    if hook.project_id is None or is_resting(hook, now) or is_disabled(hook):
        return
    doublings = hook.recent_failures - FAILURES_BEFORE_BACKOFF
    hook.recent_failures += 1
    if hook.recent_failures > FAILURES_BEFORE_BACKOFF:
        hook.disabled_until = now + min(_FIRST_BACKOFF * 2 ** min(doublings, 20), _LONGEST_BACKOFF)
