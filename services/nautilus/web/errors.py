"""Errors of the pages themselves, in the management service's tree.

NautilusError
├── Forbidden
│   └── CsrfRefused       403 csrf           a write without the session's own token
├── NotFound
│   └── PageNotFound      404 not_found
└── SignInNeeded          401 unauthenticated
"""

from __future__ import annotations

from nautilus.errors import Forbidden, NotFound, Unauthenticated


class CsrfRefused(Forbidden):
    code = "csrf"

    def __init__(self) -> None:
        super().__init__("this form is from another session: go back, reload the page, and try again")


class PageNotFound(NotFound):
    def __init__(self, message: str = "there is no such page") -> None:
        super().__init__(message)


class SignInNeeded(Unauthenticated):
    def __init__(self) -> None:
        super().__init__("sign in to see this page")
