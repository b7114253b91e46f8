"""The scopes that an application may ask for, in words for the consent page.

Source: doc/integration/oauth_provider.md ("View all authorized applications" and the table of scopes).
"""

from __future__ import annotations

WORDS = {
    "api": "Read and write everything you can: projects, repositories, pipelines, runners.",
    "read_api": "Read everything you can: projects, repositories, pipelines, runners.",
    "read_user": "Read your profile.",
    "create_runner": "Create runners.",
    "manage_runner": "Manage runners.",
    "read_repository": "Read repositories over Git.",
    "write_repository": "Read and write repositories over Git.",
    "read_registry": "Pull container images.",
    "write_registry": "Push container images.",
    "sudo": "Act as any user, if you are an administrator.",
    "admin_mode": "Use administrators' API, if you are one.",
    "openid": "Know who you are.",
    "profile": "Read your name and user name.",
    "email": "Read your e-mail address.",
}


def parse(text: str) -> list[str]:
    """Scopes separated by spaces, commas or pluses, each once."""
    return list(dict.fromkeys(text.replace(",", " ").replace("+", " ").split()))


def unknown(scopes: list[str]) -> list[str]:
    return [scope for scope in scopes if scope not in WORDS]
