"""Joins the pages to the service: what `app.create_app` needs of them, in one place."""

from __future__ import annotations

from starlette.routing import BaseRoute, Route

from nautilus.db.engine import Database
from nautilus.settings import Settings
from nautilus.signin.oauth import Provider
from nautilus.signin.sessions import Sessions
from nautilus.web import assets, signin
from nautilus.web.signin import SignIn
from nautilus.web.site import Site

PUBLIC_PATHS = signin.PUBLIC_PATHS | {"/static/{digest}/{path:path}", "/favicon.ico"}
"""Pages that ask nobody who they are."""


class Pages:
    """One per process. `site.resolve` is the session resolver for the API."""

    def __init__(self, settings: Settings, database: Database, provider: Provider | None = None) -> None:
        self._provider = provider or Provider(settings.gitlab_url, settings.gitlab_external_url)
        sessions = Sessions(
            database, self._provider, key=settings.session_key, application=settings.oauth_client
        )
        self.site = Site(settings, sessions)

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/static/{digest}/{path:path}", assets.serve, methods=["GET"]),
            Route("/favicon.ico", assets.icon, methods=["GET"]),
            *SignIn(self.site, self._provider).routes(),
        ]

    async def close(self) -> None:
        await self._provider.close()
