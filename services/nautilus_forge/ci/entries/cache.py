"""`cache`: one, or up to four.

Source: lib/gitlab/ci/config/entry/{caches,cache,key,files,prefix,paths}.rb.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from nautilus_forge.ci.entries.checks import (
    Fields,
    Problems,
    Spot,
    check_keys,
    check_required,
    is_text_list,
    read_flag,
)
from nautilus_forge.ci.entries.keywords import CACHE, CACHE_KEY
from nautilus_forge.ci.model import Cache
from nautilus_forge.ci.scalars import to_text
from nautilus_forge.ci.values import place_of

MAX_CACHES = 4
MAX_FALLBACK_KEYS = 5
MAX_KEY_FILES = 10
_WHEN = ("on_success", "on_failure", "always")
_POLICY = re.compile(r"(?:pull-push|push|pull|\$\w{1,255}|\$\{\w{1,255}\})\Z")


def read_caches(value: Any, spot: Spot, problems: Problems) -> tuple[Cache, ...] | None:
    """`cache` of a job, or of `default`; an empty mapping or sequence: none."""
    if value is None:
        return None
    if not isinstance(value, dict | list):
        problems.add(f"{spot.where} config can only be a hash or an array", spot.place)
        return None
    return problems.shared("cache", value, lambda: _read_all(value, spot, problems))


def _read_all(value: dict[Any, Any] | list[Any], spot: Spot, problems: Problems) -> tuple[Cache, ...]:
    if isinstance(value, dict):
        return (_read(value, spot, problems),) if value else ()
    if len(value) > MAX_CACHES:
        problems.add(f"{spot.where} config no more than {MAX_CACHES} caches can be created", spot.place)
        return ()
    caches: list[Cache] = []
    for index, item in enumerate(value):
        at = Spot(spot.where, place_of(value, index) or spot.place)
        if isinstance(item, dict):
            caches.append(_read(item, at, problems))
        else:
            problems.add(f"{at.where} config should be a hash", at.place)
    return tuple(caches)


def _read(value: dict[Any, Any], spot: Spot, problems: Problems) -> Cache:
    check_keys(value, CACHE, spot, problems)
    fields = Fields(value, spot, problems)
    key, files, prefix = _key(value.get("key"), spot.key(value, "key"), problems)
    policy = fields.text("policy")
    if policy and not _POLICY.match(policy):
        fields.fail("policy", "should be a variable or one of: pull-push, push, pull")
    fallback_keys = _texts(value, "fallback_keys", spot, problems)
    if len(fallback_keys) > MAX_FALLBACK_KEYS:
        fields.fail("fallback_keys", f"has to many entries (maximum {MAX_FALLBACK_KEYS})")
    read_flag(value.get("unprotect"), spot.key(value, "unprotect"), problems)
    return Cache(
        key=key,
        key_files=files,
        key_prefix=prefix,
        paths=_texts(value, "paths", spot, problems),
        untracked=read_flag(value.get("untracked"), spot.key(value, "untracked"), problems) or False,
        policy=policy or "pull-push",
        when=fields.choice("when", _WHEN) or "on_success",
        fallback_keys=fallback_keys,
        unprotect=value.get("unprotect") is True,
    )


def _texts(value: dict[Any, Any], key: str, spot: Spot, problems: Problems) -> tuple[str, ...]:
    texts = value.get(key)
    if texts is None:
        return ()
    if is_text_list(texts):
        return tuple(texts)
    at = spot.key(value, key)
    problems.add(f"{at.where} config should be an array of strings", at.place)
    return ()


def _key(value: Any, spot: Spot, problems: Problems) -> tuple[str, tuple[str, ...], str | None]:
    """The key, or the files that make it and their prefix."""
    if value is None:
        return "default", (), None
    if isinstance(value, str):
        _check_key_text(value, spot, problems)
        return value, (), None
    if not isinstance(value, dict):
        problems.add(f"{spot.where} should be a hash, a string or a symbol", spot.place)
        return "default", (), None
    check_keys(value, CACHE_KEY, spot, problems)
    if "files_commits" not in value:
        check_required(value, "files", spot, problems)
    files: tuple[str, ...] = ()
    if "files" in value:
        files = _files(value["files"], spot.key(value, "files"), problems)
    prefix = value.get("prefix")
    if prefix is not None and not isinstance(prefix, str):
        at = spot.key(value, "prefix")
        problems.add(f"{at.where} config should be a string or symbol", at.place)
        prefix = None
    elif prefix is not None:
        _check_key_text(prefix, spot.key(value, "prefix"), problems)
    return "default", files, prefix


def _files(value: Any, spot: Spot, problems: Problems) -> tuple[str, ...]:
    if not is_text_list(value):
        problems.add(f"{spot.where} config should be an array of strings", spot.place)
        return ()
    if not value:
        problems.add(f"{spot.where} config requires at least 1 item", spot.place)
    if len(value) > MAX_KEY_FILES:
        problems.add(f"{spot.where} config has too many items (maximum is {MAX_KEY_FILES})", spot.place)
    return tuple(to_text(path).lstrip("/") for path in value)


def _check_key_text(value: str, spot: Spot, problems: Problems) -> None:
    path = unquote(value)
    if "/" in path:
        problems.add(f'{spot.where} config cannot contain the "/" character', spot.place)
    elif path in (".", ".."):
        problems.add(f'{spot.where} config cannot be "." or ".."', spot.place)
