"""Hooks and what was sent to them, as GitLab shows them; secrets by their names alone.

Source: gitlabhq lib/api/entities/{hook,project_hook,web_hook_log}.rb.
"""

from __future__ import annotations

from typing import Any

import orjson

from nautilus_forge.db.models import WebHook, WebHookLog
from nautilus_forge.responses import timestamp
from nautilus_forge.variables.cipher import Cipher
from nautilus_forge.webhooks.disabling import alert_status
from nautilus_forge.webhooks.hook import opened
from nautilus_forge.webhooks.triggers import PROJECT_TRIGGERS, SYSTEM_TRIGGERS

REDACTED = "[REDACTED]"


def system_hook(cipher: Cipher, hook: WebHook) -> dict[str, Any]:
    now = opened(cipher, hook)
    flags = {flag: flag in hook.events for flag in SYSTEM_TRIGGERS}
    return {
        "id": hook.id,
        "url": now.url,
        "name": hook.name,
        "description": hook.description,
        "created_at": timestamp(hook.created_at),
        **flags,
        "enable_ssl_verification": hook.enable_ssl_verification,
        "alert_status": alert_status(hook),
        "disabled_until": timestamp(hook.disabled_until),
        "url_variables": [{"key": name} for name in now.url_variables],
        "push_events_branch_filter": hook.push_events_branch_filter,
        "branch_filter_strategy": hook.branch_filter_strategy,
        "custom_webhook_template": hook.custom_webhook_template,
        "custom_headers": [{"key": name} for name in now.custom_headers],
    }


def project_hook(cipher: Cipher, hook: WebHook) -> dict[str, Any]:
    flags = {flag: flag in hook.events for flag in PROJECT_TRIGGERS}
    return system_hook(cipher, hook) | {"project_id": hook.project_id} | flags


def log_entry(cipher: Cipher, entry: WebHookLog) -> dict[str, Any]:
    return {
        "id": entry.id,
        "url": entry.url,
        "trigger": entry.trigger,
        "request_headers": entry.request_headers,
        "request_data": _without_addresses(orjson.loads(cipher.decrypt(entry.request_data))),
        "response_headers": entry.response_headers,
        "response_body": entry.response_body,
        "execution_duration": entry.execution_duration,
        "response_status": entry.response_status,
        "created_at": timestamp(entry.created_at),
    }


def _without_addresses(data: Any) -> Any:
    """Authors' addresses are not for whoever looks after the project. Source: app/models/hooks/web_hook_log.rb."""
    if isinstance(data, dict):
        for commit in data.get("commits") or ():
            if isinstance(commit, dict) and isinstance(commit.get("author"), dict):
                commit["author"]["email"] = REDACTED
    return data
