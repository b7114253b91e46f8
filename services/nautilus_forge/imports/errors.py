"""Why an import is refused before it begins.

ForgeError
└── Unprocessable
    └── Unreachable       nobody answers as a Git server there
"""

from __future__ import annotations

from nautilus_forge.errors import Unprocessable


class Unreachable(Unprocessable):
    """Source: gitlabhq app/services/import/validate_remote_git_endpoint_service.rb."""

    default = "Unable to access repository with the URL and credentials provided"
