"""What can go wrong with the gateway's configuration.

GatewayError
├── ConfigurationInvalid   a value that cannot be written into an nginx configuration
├── ConfigurationRefused   nginx itself refused the rendered file
└── NginxMissing           there is no nginx to ask
"""

from __future__ import annotations

from typing import ClassVar


class GatewayError(Exception):
    """Base of all; the text is safe to show. `status`: what an HTTP interface would answer."""

    code: ClassVar[str] = "gateway_error"
    status: ClassVar[int] = 500


class ConfigurationInvalid(GatewayError):
    """A path, port or name cannot stand in an nginx configuration; the text names it."""

    code = "gateway_configuration_invalid"
    status = 422


class ConfigurationRefused(GatewayError):
    """`nginx -t` refused the file; the text is nginx's."""

    code = "gateway_configuration_refused"


class NginxMissing(GatewayError):
    """No nginx could be executed; the text says how to get one."""

    code = "nginx_missing"
