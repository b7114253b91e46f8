"""The management service's errors: each has an HTTP status, a stable code, and a message safe to show.

NautilusError                       500 internal
├── SettingError                    500 setting
├── InvalidRequest                  422 invalid_request
│   ├── InvalidParameter            422 invalid_parameter
│   ├── InvalidCommand              422 invalid_command
│   ├── ExternalCiConfig            422 external_ci_config
│   └── TooLarge                    413 too_large
├── Unauthenticated                 401 unauthenticated
├── Forbidden                       403 forbidden
├── NotFound                        404 not_found
├── Conflict                        409 conflict
│   └── InvalidTransition           409 invalid_transition
├── StorageFull                     507 storage_full
├── Unavailable                     503 unavailable        try again later
│   ├── NotReady                    503 not_ready
│   ├── DatabaseUnavailable         503 database_unavailable
│   ├── RunnerUnreachable           503 runner_unreachable
│   └── GitLabUnavailable           503 gitlab_unavailable
└── GitLabError                     502 gitlab_error       GitLab answered something that we cannot use
    ├── GitLabUnauthenticated       401 gitlab_unauthenticated
    ├── GitLabForbidden             403 gitlab_forbidden
    ├── GitLabNotFound              404 gitlab_not_found
    ├── GitLabConflict              409 gitlab_conflict
    └── GitLabRefused               422 gitlab_refused     GitLab found fault with the request

The codes are documented in docs/reference/api.md; a test holds the two together.
"""

from __future__ import annotations


class NautilusError(Exception):
    """Base. `str()` is the message for the caller; it never holds a secret."""

    status = 500
    code = "internal"

    def __init__(self, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s


class SettingError(NautilusError):
    code = "setting"


class InvalidRequest(NautilusError):
    status = 422
    code = "invalid_request"


class InvalidParameter(InvalidRequest):
    code = "invalid_parameter"


class InvalidCommand(InvalidRequest):
    code = "invalid_command"


class ExternalCiConfig(InvalidRequest):
    """The project's CI file lies outside of its repository, so a run cannot replace it."""

    code = "external_ci_config"


class TooLarge(InvalidRequest):
    status = 413
    code = "too_large"


class Unauthenticated(NautilusError):
    status = 401
    code = "unauthenticated"


class Forbidden(NautilusError):
    status = 403
    code = "forbidden"


class NotFound(NautilusError):
    status = 404
    code = "not_found"


class Conflict(NautilusError):
    status = 409
    code = "conflict"


class InvalidTransition(Conflict):
    """An experiment cannot go from the state it is in to the one asked for."""

    code = "invalid_transition"


class StorageFull(NautilusError):
    status = 507
    code = "storage_full"


class Unavailable(NautilusError):
    status = 503
    code = "unavailable"


class NotReady(Unavailable):
    code = "not_ready"


class DatabaseUnavailable(Unavailable):
    code = "database_unavailable"


class RunnerUnreachable(Unavailable):
    """No runner answers for the files of a running job."""

    code = "runner_unreachable"


class GitLabUnavailable(Unavailable):
    """GitLab does not answer, answers 5xx, or asks us to slow down."""

    code = "gitlab_unavailable"


class GitLabError(NautilusError):
    status = 502
    code = "gitlab_error"


class GitLabUnauthenticated(GitLabError):
    status = 401
    code = "gitlab_unauthenticated"


class GitLabForbidden(GitLabError):
    status = 403
    code = "gitlab_forbidden"


class GitLabNotFound(GitLabError):
    status = 404
    code = "gitlab_not_found"


class GitLabConflict(GitLabError):
    status = 409
    code = "gitlab_conflict"


class GitLabRefused(GitLabError):
    status = 422
    code = "gitlab_refused"
