"""Keys of caches that depend on files.

Source: doc/ci/yaml/_index.md `cache:key:files`, GitLab lib/gitlab/ci/pipeline/seed/build/cache.rb.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from nautilus_forge.ci.model import Cache
from nautilus_forge.git.command import Git

_MAX_FILES = 2


async def with_key(git: Git, sha: str, cache: Cache) -> Cache:
    """The cache with the key that its files make at a commit: a digest of their last commits, `default` without any."""
    if not cache.key_files:
        return cache
    found = [
        await git.text("--literal-pathspecs", "log", "--max-count=1", "--format=%H", sha, "--", path)
        for path in cache.key_files[:_MAX_FILES]
    ]
    shas = sorted({commit for commit in found if commit})
    key = hashlib.sha1("-".join(shas).encode()).hexdigest() if shas else "default"  # noqa: S324 — GitLab's key
    prefix = f"{cache.key_prefix}-" if cache.key_prefix else ""
    return replace(cache, key=prefix + key, key_files=(), key_prefix=None)
