"""What a runner can be refused for.

    ForgeError
    ├── Forbidden
    │   └── UnknownRunner          the token is no runner's, or it has expired
    └── Gone
        └── RegistrationDisabled   410: registration tokens are switched off

Source: GitLab app/services/ci/runners/register_runner_service.rb, lib/api/ci/helpers/runner.rb.
"""

from __future__ import annotations

from nautilus_forge.errors import Forbidden, Gone


class UnknownRunner(Forbidden):
    pass


class RegistrationDisabled(Gone):
    default = "410 Gone - runner registration disallowed"
