"""The forge's errors; each knows its HTTP status and GitLab's body for it.

    ForgeError                       500
    ├── BadRequest                   400  {"message": "400 Bad request - <what>"} or {"error": …} or given
    │   ├── InvalidParams            400  {"error": "name is missing, path is invalid"}
    │   └── InvalidRecord            400  {"message": {"path": ["has already been taken"]}}
    ├── Unauthorized                 401  {"message": "401 Unauthorized"}
    │   └── InvalidToken             401  {"error": "invalid_token", "error_description": …}
    ├── Forbidden                    403  {"message": "403 Forbidden"} or "403 Forbidden  - <why>"
    │   └── InsufficientScope        403  {"error": "insufficient_scope", …}
    ├── NotFound                     404  {"message": "404 <Thing> Not Found"}
    ├── NotAllowed                   405  {"message": "405 Method Not Allowed"}
    ├── NotAcceptable                406  {"message": …}
    ├── Conflict                     409  {"message": "409 Conflict"} or given
    ├── Gone                         410
    ├── PayloadTooLarge              413
    ├── Unprocessable                422  {"message": …}
    ├── TooManyRequests              429
    ├── Unavailable                  503
    ├── InsufficientStorage          507
    └── GitError                     500  a git command failed (see `nautilus_forge.git.command`)

Source: gitlabhq lib/api/helpers.rb (`render_api_error!` and its relatives), lib/api/api_guard.rb.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class ForgeError(Exception):
    """Root of the tree. `body` is sent as JSON; `headers` go with it; the message is safe to show."""

    status: ClassVar[int] = 500
    default: ClassVar[str] = "500 Internal Server Error"

    def __init__(
        self,
        message: Any = None,
        *,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        shown = self.default if message is None else message
        super().__init__(str(shown))
        self.body: Mapping[str, Any] = body if body is not None else {"message": shown}
        self.headers: Mapping[str, str] = headers or {}


class BadRequest(ForgeError):
    """Without `reason`: GitLab's bare 400; with: `400 Bad request - <reason>`."""

    status = 400
    default = "400 Bad request"

    def __init__(
        self, reason: str | None = None, *, body: Mapping[str, Any] | None = None, message: Any = None
    ) -> None:
        text = message if message is not None else (f"400 Bad request - {reason}" if reason else None)
        super().__init__(text, body=body)


class InvalidParams(BadRequest):
    """Parameters that Grape would refuse: `{"error": "<name> is missing, …"}`."""

    def __init__(self, error: str) -> None:
        super().__init__(body={"error": error})


class InvalidRecord(BadRequest):
    """Validation of a record failed: problems by field. Source: lib/api/helpers.rb `render_validation_error!`."""

    def __init__(self, problems: Mapping[str, list[str]]) -> None:
        super().__init__(body={"message": problems})


class Unauthorized(ForgeError):
    status = 401
    default = "401 Unauthorized"


class InvalidToken(Unauthorized):
    """A token that was good once (expired, revoked).

    Source: lib/api/api_guard.rb `oauth2_bearer_token_error_handler`.
    """

    def __init__(self, description: str) -> None:
        super().__init__(body={"error": "invalid_token", "error_description": description})


class Forbidden(ForgeError):
    """Without `reason`: `403 Forbidden`; with: `403 Forbidden - <reason>`."""

    status = 403
    default = "403 Forbidden"

    def __init__(self, reason: str | None = None, *, body: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"403 Forbidden - {reason}" if reason else None, body=body)


class InsufficientScope(Forbidden):
    """The token is good but lacks the scope; `scopes` are those of which one would do."""

    def __init__(self, scopes: tuple[str, ...]) -> None:
        super().__init__(
            body={
                "error": "insufficient_scope",
                "error_description": "The request requires higher privileges than provided by"
                " the access token.",
                "scope": " ".join(scopes),
            }
        )


class NotFound(ForgeError):
    """`thing` as GitLab names it ("Project", "Commit", "File", "Tree", "Branch"); None: `404 Not Found`."""

    status = 404

    def __init__(self, thing: str | None = None) -> None:
        super().__init__(f"404 {thing} Not Found" if thing else "404 Not Found")


class NotAllowed(ForgeError):
    status = 405
    default = "405 Method Not Allowed"


class NotAcceptable(ForgeError):
    status = 406
    default = "406 Not Acceptable"


class Conflict(ForgeError):
    status = 409
    default = "409 Conflict"


class Gone(ForgeError):
    status = 410
    default = "410 Gone"


class PayloadTooLarge(ForgeError):
    status = 413
    default = "413 Request Entity Too Large"


class Unprocessable(ForgeError):
    status = 422
    default = "422 Unprocessable Entity"


class TooManyRequests(ForgeError):
    """`retry_after_s`: whole seconds until another try is worth it."""

    status = 429
    default = "429 Too Many Requests"

    def __init__(self, retry_after_s: int, message: Any = None) -> None:
        super().__init__(message, headers={"Retry-After": str(retry_after_s)})


class Unavailable(ForgeError):
    """Something that we need does not answer; the same request may succeed in a second."""

    status = 503
    default = "503 Service Unavailable"

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(reason, headers={"Retry-After": "1"})


class InsufficientStorage(ForgeError):
    status = 507
    default = "507 Insufficient Storage"


class GitError(ForgeError):
    """A git command failed or ran past its time. `stderr` is for the log, never for the client."""

    def __init__(self, what: str, *, returncode: int | None = None, stderr: str = "") -> None:
        super().__init__()
        self.what = what
        self.returncode = returncode
        self.stderr = stderr

    def __str__(self) -> str:
        return f"git {self.what} ended with {self.returncode}: {self.stderr[:500]}"
