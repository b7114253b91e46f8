"""The gateway: nginx's configuration from a typed model. Imports nothing of the other programs.

config = appliance_config(home)
path.write_text(render(config))
check(path)
"""

from nautilus_gateway.appliance import Ports, appliance_config
from nautilus_gateway.check import check
from nautilus_gateway.errors import ConfigurationInvalid, ConfigurationRefused, GatewayError, NginxMissing
from nautilus_gateway.model import GatewayConfig, Limits, Tls
from nautilus_gateway.render import render

__all__ = [
    "ConfigurationInvalid",
    "ConfigurationRefused",
    "GatewayConfig",
    "GatewayError",
    "Limits",
    "NginxMissing",
    "Ports",
    "Tls",
    "appliance_config",
    "check",
    "render",
]
