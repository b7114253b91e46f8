"""Making, finding and using keys.

Source: gitlabhq app/services/keys/{create,last_used}_service.rb, app/finders/keys_finder.rb.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Select, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import Key, User
from nautilus_forge.errors import BadRequest, InvalidRecord
from nautilus_forge.keys.public_key import PublicKey
from nautilus_forge.keys.validation import valid_key

LAST_USED_EVERY = timedelta(minutes=10)
_LETS_IN = ("auth", "auth_and_signing")
_MD5 = re.compile(r"(?:MD5:)?((?:[0-9a-fA-F]{2}:){15}[0-9a-fA-F]{2})")
_SHA256 = re.compile(r"(?:SHA256:)?([A-Za-z0-9+/]{43})=?")


@dataclass(frozen=True)
class NewKey:
    """What a client gave. `expires_at` is aware."""

    text: str
    title: str
    expires_at: datetime | None = None
    usage_type: str = "auth_and_signing"


async def add_key(db: AsyncSession, user: User, new: NewKey) -> Key:
    """A key of that user. Raises `InvalidRecord`."""
    public = valid_key(new.text, new.title, new.expires_at)
    return await store(db, Key(user_id=user.id, usage_type=new.usage_type), public, new)


async def store(db: AsyncSession, key: Key, public: PublicKey, new: NewKey, prefix: str = "") -> Key:
    """Write the key. Raises `InvalidRecord` where the same one is known already, whoever has it."""
    key.title, key.expires_at = new.title.strip(), new.expires_at
    key.key, key.fingerprint_sha256, key.fingerprint_md5 = public.text, public.sha256, public.md5
    try:
        async with db.begin_nested():
            db.add(key)
    except IntegrityError as error:
        if "uq_keys_fingerprint_sha256" not in str(error.orig):
            raise
        raise InvalidRecord({f"{prefix}fingerprint_sha256": ["has already been taken"]}) from error
    await db.refresh(key)
    return key


def keys_of(user_id: int) -> Select[Key]:
    return select(Key).where(Key.user_id == user_id).order_by(Key.id)


async def key_of_user(db: AsyncSession, user_id: int, key_id: int) -> Key | None:
    return await db.scalar(select(Key).where(Key.user_id == user_id, Key.id == key_id))


async def that_lets_in(db: AsyncSession, blob: bytes) -> Key | None:
    """The key that this blob is, unless it is for signing alone; by the fingerprint's index."""
    digest = hashlib.sha256(blob).digest()
    return await db.scalar(select(Key).where(Key.fingerprint_sha256 == digest, Key.usage_type.in_(_LETS_IN)))


async def by_fingerprint(db: AsyncSession, fingerprint: str) -> Key | None:
    """`SHA256:…` or MD5 (`4a:9d:…`), with or without prefix. Raises `BadRequest` for what is neither."""
    text = fingerprint.strip()
    if match := _MD5.fullmatch(text):
        digest = bytes.fromhex(match[1].replace(":", ""))
        return await db.scalar(select(Key).where(Key.fingerprint_md5 == digest).order_by(Key.id).limit(1))
    if match := _SHA256.fullmatch(text):
        try:
            digest = base64.b64decode(match[1] + "=", validate=True)
        except binascii.Error:
            digest = b""
        return await db.scalar(select(Key).where(Key.fingerprint_sha256 == digest))
    raise BadRequest(message="Failed to return the key")


def is_expired(key: Key, now: datetime | None = None) -> bool:
    return key.expires_at is not None and key.expires_at <= (now or datetime.now(UTC))


async def owner_of(db: AsyncSession, key: Key) -> User | None:
    """Whose key it is; for a deploy key who made it, None when he is gone."""
    owner = key.user_id if key.user_id is not None else key.creator_id
    return await db.get(User, owner) if owner is not None else None


async def note_use(db: AsyncSession, key: Key, user: User | None) -> None:
    """Remember that the key was used, at most every ten minutes; a row that somebody else holds is left alone."""
    now = datetime.now(UTC)
    if key.last_used_at is not None and now - key.last_used_at < LAST_USED_EVERY:
        return
    free = select(Key.id).where(Key.id == key.id).with_for_update(skip_locked=True).scalar_subquery()
    await db.execute(
        update(Key)
        .where(Key.id == free)
        .values(last_used_at=now, updated_at=Key.updated_at)
        .execution_options(synchronize_session=False)
    )
    if user is not None and key.user_id is not None and user.last_activity_on != now.date():
        same = select(User.id).where(User.id == user.id).with_for_update(skip_locked=True).scalar_subquery()
        await db.execute(
            update(User)
            .where(User.id == same)
            .values(last_activity_on=now.date(), updated_at=User.updated_at)
            .execution_options(synchronize_session=False)
        )
