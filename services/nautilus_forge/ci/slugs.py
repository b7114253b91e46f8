"""Names made from names, in GitLab's way.

Source: lib/gitlab/utils.rb (slugify), lib/gitlab/utils/job.rb, lib/gitlab/slug/environment.rb,
app/models/environment.rb (guess_tier).
"""

from __future__ import annotations

import hashlib
import re

_GROUP = re.compile(r"(?:[\s:]+(?:\[[^\]]*\]|\d+[\s:/\\]+\d+)){1,3}\s*\Z")
_SLUG_CHARS = 63


def slug(text: str) -> str:
    """The text as a part of a host name: lower case, digits and dashes, at most 63 characters."""
    return re.sub(r"[^a-z0-9]", "-", text.lower())[:_SLUG_CHARS].strip("-")


def group_name(name: str) -> str:
    """The name of a job without what tells its parallel instances apart (`rspec 1/3`, `deploy: [eu]`)."""
    return _GROUP.sub("", name)


def environment_slug(name: str) -> str:
    """Source: lib/gitlab/slug/environment.rb: at most 24 characters, unique by a suffix where changed."""
    slugged = re.sub(r"[^a-z0-9]", "-", name.lower())
    if not slugged[:1].isalpha():
        slugged = f"env-{slugged}"
    slugged = re.sub(r"-+", "-", slugged)
    if len(slugged) <= 24 and slugged == name:
        return slugged.removesuffix("-")
    number = int(hashlib.sha256(name.encode()).hexdigest(), 16)
    return f"{slugged[:17].removesuffix('-')}-{_base36(number)[-6:]}"


def environment_tier(name: str) -> str:
    """The tier that GitLab guesses from the name. Source: app/models/environment.rb."""
    for pattern, tier in (
        (r"(dev|review|trunk)", "development"),
        (r"(test|tst|int|ac(ce|)pt|qa|qc|control|quality)", "testing"),
        (r"(st(a|)g|mod(e|)l|pre|demo|non)", "staging"),
        (r"(pr(o|)d|live)", "production"),
    ):
        if re.search(pattern, name, re.IGNORECASE):
            return tier
    return "other"


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, rest = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[rest] + digits
    return digits or "0"
