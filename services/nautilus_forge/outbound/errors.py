"""What may go wrong on the way out.

ForgeError
├── BadRequest
│   └── UrlBlocked        the forge does not speak to that address; the message is GitLab's
└── OutboundFailed        it does, but no answer came
"""

from __future__ import annotations

from nautilus_forge.errors import BadRequest, ForgeError


class UrlBlocked(BadRequest):
    """`reason`: GitLab's words, without the URL."""

    def __init__(self, reason: str) -> None:
        super().__init__(message=reason)
        self.reason = reason


class OutboundFailed(ForgeError):
    """No answer: not reached, no TLS, too slow, or too long. The message names neither URL nor credentials."""

    status = 422
    default = "The request failed"
