"""`POST /api/v1/hooks/gitlab`: a project hook's job and pipeline events make the reconciler look at once.

Source: https://docs.gitlab.com/user/project/integrations/webhooks/ (`X-Gitlab-Token`),
…/webhook_events/#job-events.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from fastapi import APIRouter, Request, Response
from pydantic import SecretStr

from nautilus.errors import Unauthenticated
from nautilus.guard import guarded

_EVENTS = ("Job Hook", "Pipeline Hook")


def hook_secret(key: SecretStr) -> str:
    """The secret that our hooks at GitLab carry, derived from the session key."""
    return hmac.new(key.get_secret_value().encode(), b"gitlab hook", "sha256").hexdigest()


def hook_routes(wake: Callable[[], None], session_key: Callable[[], SecretStr | None]) -> APIRouter:
    router = APIRouter(prefix="/hooks")

    @router.post("/gitlab", status_code=204)
    @guarded
    async def gitlab_event(request: Request) -> Response:
        key = session_key()
        sent = request.headers.get("x-gitlab-token", "")
        if key is None or not hmac.compare_digest(sent.encode(), hook_secret(key).encode()):
            raise Unauthenticated("the hook's secret token is not ours")
        if request.headers.get("x-gitlab-event") in _EVENTS:
            wake()
        return Response(status_code=204)

    return router
