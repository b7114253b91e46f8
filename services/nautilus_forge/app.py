"""The composition root: everything that a forge consists of is made and joined here."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import chain

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp

from nautilus_forge import API_PREFIX, VERSION, ci_join, startup
from nautilus_forge.accounts import upkeep as account_upkeep
from nautilus_forge.api import PARTS
from nautilus_forge.basic_auth import BasicGate
from nautilus_forge.db.engine import Database
from nautilus_forge.events import half as events
from nautilus_forge.forge import Forge
from nautilus_forge.git.hooks import ensure_hooks
from nautilus_forge.git.store import RepositoryStore
from nautilus_forge.groups import removal as group_removal
from nautilus_forge.http import Edge, install_error_handlers
from nautilus_forge.imports.worker import Imports
from nautilus_forge.instance import routes as instance
from nautilus_forge.internal import ssh_routes as internal_ssh
from nautilus_forge.internal import upload_routes as internal_uploads
from nautilus_forge.internal.git_routes import git_router
from nautilus_forge.keys import routes as keys
from nautilus_forge.lfs import batch_routes as lfs_batch
from nautilus_forge.lfs import half as lfs_half
from nautilus_forge.lfs import lock_routes as lfs_locks
from nautilus_forge.lfs import storage_routes as lfs_storage
from nautilus_forge.merge_requests import half as merge_requests
from nautilus_forge.oauth import authorize_routes as oauth_authorize
from nautilus_forge.oauth import oidc_routes as oauth_oidc
from nautilus_forge.oauth import token_routes as oauth_token
from nautilus_forge.projects.language_upkeep import LanguageUpkeep
from nautilus_forge.projects.removal import finish_removals
from nautilus_forge.registry import auth_routes as registry_auth
from nautilus_forge.registry import half as registry_half
from nautilus_forge.repository import updates
from nautilus_forge.routing import Ahead, RouteIndex
from nautilus_forge.settings import Settings
from nautilus_forge.traces.endpoint import TraceEndpoint
from nautilus_forge.users.root import ensure_accounts
from nautilus_forge.web.routes import pages_router
from nautilus_forge.webhooks import half as webhooks

log = logging.getLogger(__name__)


def root_routers() -> list[APIRouter]:
    """Everything outside `/api/v4`: pages, OAuth, health, what the gateway asks."""
    return [
        internal_uploads.router,
        instance.health,
        git_router(),
        lfs_storage.router,
        lfs_batch.router,
        lfs_locks.router,
        internal_ssh.router,
        keys.pages,
        pages_router(),
        oauth_authorize.router,
        oauth_token.router,
        oauth_oidc.router,
        registry_auth.router,
    ]


def build_forge(settings: Settings) -> Forge:
    """The parts, joined; nothing is opened or started yet."""
    forge = Forge(
        settings=settings,
        database=Database(settings),
        repositories=RepositoryStore(settings),
        secret_key=startup.secret_key(settings),
    )
    forge.basic = BasicGate()
    forge.imports = Imports(forge)
    forge.on_ref_change.append(LanguageUpkeep().follow)
    forge.on_ready += [ensure_hooks, ensure_accounts]
    lfs_half.join(forge)
    ci_join.join(forge)
    forge.on_ready += [
        group_removal.finish_removals,
        finish_removals,
        updates.start_sweeping,
        account_upkeep.start,
    ]
    forge.on_ready.append(forge.imports.resume)
    forge.on_project_deleted.append(forge.imports.forget)
    events.join(forge)
    webhooks.join(forge)
    merge_requests.join(forge)
    registry_half.join(forge)
    return forge


def create_app(settings: Settings, forge: Forge | None = None) -> ASGIApp:
    """The forge as an ASGI application; its `state.forge` is the `Forge`."""
    forge = forge or build_forge(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        forge.spawn(startup.become_ready(forge), "become ready")
        yield
        await forge.close()

    app = FastAPI(title="Nautilus forge", version=VERSION, openapi_url=None, lifespan=lifespan)
    app.state.forge = forge
    app.router.routes.append(RouteIndex(API_PREFIX, PARTS))
    app.router.routes.extend(chain.from_iterable(router.routes for router in root_routers()))
    install_error_handlers(app)
    ahead = Ahead(app, ci_join.busy_endpoints(API_PREFIX))
    return Edge(TraceEndpoint(ahead, forge), forge, app.state)
