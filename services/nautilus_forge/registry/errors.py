"""What can go wrong between the forge and the container registry.

ForgeError
├── RegistryUnavailable   503  the registry does not answer
└── RegistryRefused       500  the registry answered with something that we did not expect
"""

from __future__ import annotations

from nautilus_forge.errors import ForgeError, Unavailable


class RegistryUnavailable(Unavailable):
    """The registry does not answer, or is read-only just now; the same request may succeed later."""

    def __init__(self, reason: str = "the container registry does not answer") -> None:
        super().__init__(f"503 Service Unavailable: {reason}")


class RegistryRefused(ForgeError):
    """`what` names request and answer, for the log alone."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def __str__(self) -> str:
        return self.what
