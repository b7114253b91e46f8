"""Errors of tracking, as MLflow's clients know them: `{"error_code": …, "message": …}` and a status.

NautilusError
└── TrackingError
    ├── InvalidParameter      400 INVALID_PARAMETER_VALUE
    ├── BadRequest            400 BAD_REQUEST
    ├── AlreadyExists         400 RESOURCE_ALREADY_EXISTS
    ├── NotAuthenticated      401 UNAUTHENTICATED
    ├── NotPermitted          403 PERMISSION_DENIED
    ├── NotFound              404 RESOURCE_DOES_NOT_EXIST
    ├── NoSuchEndpoint        404 ENDPOINT_NOT_FOUND
    ├── FeatureDisabled       404 FEATURE_DISABLED
    ├── TooLarge              413 REQUEST_LIMIT_EXCEEDED
    ├── NotImplementedHere    501 NOT_IMPLEMENTED
    ├── Unavailable           503 TEMPORARILY_UNAVAILABLE (MLflow's client retries it)
    └── DiskFull              507 RESOURCE_EXHAUSTED

Source: mlflow/exceptions.py ERROR_CODE_TO_HTTP_STATUS (3.17)
"""

from __future__ import annotations

from nautilus.errors import NautilusError


class TrackingError(NautilusError):
    """Base. `message` goes to the client as it is: it names no secret and no path of ours."""

    status = 500
    code = "INTERNAL_ERROR"


class InvalidParameter(TrackingError):
    status = 400
    code = "INVALID_PARAMETER_VALUE"


class BadRequest(TrackingError):
    status = 400
    code = "BAD_REQUEST"


class AlreadyExists(TrackingError):
    status = 400
    code = "RESOURCE_ALREADY_EXISTS"


class NotAuthenticated(TrackingError):
    status = 401
    code = "UNAUTHENTICATED"


class NotPermitted(TrackingError):
    status = 403
    code = "PERMISSION_DENIED"


class NotFound(TrackingError):
    status = 404
    code = "RESOURCE_DOES_NOT_EXIST"


class NoSuchEndpoint(TrackingError):
    status = 404
    code = "ENDPOINT_NOT_FOUND"


class FeatureDisabled(TrackingError):
    status = 404
    code = "FEATURE_DISABLED"


class TooLarge(TrackingError):
    status = 413
    code = "REQUEST_LIMIT_EXCEEDED"


class NotImplementedHere(TrackingError):
    status = 501
    code = "NOT_IMPLEMENTED"


class Unavailable(TrackingError):
    status = 503
    code = "TEMPORARILY_UNAVAILABLE"


class DiskFull(TrackingError):
    status = 507
    code = "RESOURCE_EXHAUSTED"
