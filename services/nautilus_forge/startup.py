"""What happens between "the socket is open" and "ready": the same steps at every start, each idempotent."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets

from nautilus_forge.db.schema import SchemaNotReady, check_schema, head_of
from nautilus_forge.forge import Forge
from nautilus_forge.settings import Settings, read_secret

log = logging.getLogger(__name__)

_FIRST_WAIT_S = 0.05
_LONGEST_WAIT_S = 0.2


def secret_key(settings: Settings) -> bytes:
    """32 bytes for CSRF tokens: from `secret_key_file`, else from `data_dir/secret_key`, which is then made."""
    given = read_secret(settings.secret_key_file)
    own = settings.data_dir / "secret_key"
    if given is None and (given := read_secret(own)) is None:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        own.touch(mode=0o600)
        own.write_text(secrets.token_hex(32) + "\n", encoding="ascii")
        given = read_secret(own)
    assert given is not None
    return hashlib.sha256(given.get_secret_value().encode()).digest()


async def become_ready(forge: Forge) -> None:
    """Wait for the database and its schema with back-off, then do the start-up work; tried again until it succeeds."""
    head = head_of(forge.settings.migrations_dir)
    wait_s = _FIRST_WAIT_S
    while True:
        try:
            await check_schema(forge.database, head)
            for step in forge.on_ready:
                await step(forge)
            forge.not_ready = None
            log.info("ready")
            return
        except SchemaNotReady as reason:
            forge.not_ready = str(reason)
        except Exception as error:
            forge.not_ready = f"starting failed: {type(error).__name__}"
            log.exception("the start-up work failed; trying again")
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * 1.6, _LONGEST_WAIT_S)
