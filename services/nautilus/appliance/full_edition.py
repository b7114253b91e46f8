"""Provision's steps of the full edition alone: GitLab configured and ready, and the service token in it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from nautilus.appliance.errors import StepFailed
from nautilus.appliance.layout import Layout
from nautilus.appliance.omnibus import rails
from nautilus.appliance.omnibus.package import Omnibus

if TYPE_CHECKING:
    from nautilus.gitlab.provisioning import Administration

PATIENCE_S = 3600.0
"""The first reconfigure makes hundreds of tables; on a small, slow disk that is a long time."""

_RENEW_BEFORE = timedelta(days=90)


@dataclass(frozen=True)
class GitLabState:
    """What the `gitlab` program says of itself (run/gitlab.json)."""

    state: str
    detail: str


def read_state(path: Path) -> GitLabState | None:
    """None while it has not said anything."""
    try:
        found = json.loads(path.read_text())
        return GitLabState(str(found["state"]), str(found["detail"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def wait_configured(layout: Layout, tell: Callable[[str], None]) -> None:
    """Until the package is configured and its services run. Raises StepFailed after an hour, with the last word.

    A failed reconfigure is tried again by the program itself: so `failed` is waited out, and told.
    """
    deadline = time.monotonic() + PATIENCE_S
    told = ""
    while True:
        now = read_state(layout.gitlab_status)
        if now is not None and now.state == "running":
            return
        word = f"{now.state}: {now.detail}" if now else "GitLab has not begun"
        if word != told:
            tell(word)
            told = word
        if time.monotonic() > deadline:
            raise StepFailed(f"GitLab is not configured after {PATIENCE_S:.0f} s ({word})")
        time.sleep(0.3)


def ensure_service_token(gitlab: Administration, package: Omnibus, token: str) -> None:
    """Makes the token once; a later boot renews it before it expires. Costs nothing while it is good."""
    if gitlab.is_ready():
        expires = gitlab.token_expires_at()
        if expires is None or expires - datetime.now(UTC).date() > _RENEW_BEFORE:
            return
    rails.ensure_token(package, token)
