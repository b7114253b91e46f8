"""Git over HTTP to a checked target: configuration by the environment, nothing of it in the arguments."""

from __future__ import annotations

import ssl

from nautilus_forge.outbound.target import Target

_CREDENTIAL_HELPER = (
    '!f() { test "$1" = get && '
    'printf "username=%s\\npassword=%s\\n" "$OUTBOUND_USERNAME" "$OUTBOUND_PASSWORD"; }; f'
)


def environment(target: Target) -> dict[str, str]:
    """What makes git speak to `target.url` at the checked addresses alone.

    No redirects (nor http-alternates, which follow the same switch), no other protocols, no submodules, no bundle
    or pack URIs; a connection that stalls for a minute ends. The credentials are in the environment of git alone.
    """
    config = {
        "http.curloptResolve": f"{target.host}:{target.port}:{_listed(target)}",
        "http.followRedirects": "false",
        "http.lowSpeedLimit": "1000",
        "http.lowSpeedTime": "60",
        "http.proxy": "",
        "http.emptyAuth": "false",
        "protocol.allow": "never",
        f"protocol.{target.scheme}.allow": "always",
        "transfer.bundleURI": "false",
        "fetch.recurseSubmodules": "false",
        "credential.helper": _CREDENTIAL_HELPER if target.has_credentials else "",
    }
    if (trusted := ssl.get_default_verify_paths().cafile) is not None:
        config["http.sslCAInfo"] = trusted
    values = {"GIT_CONFIG_COUNT": str(len(config))}
    for position, (key, value) in enumerate(config.items()):
        values |= {f"GIT_CONFIG_KEY_{position}": key, f"GIT_CONFIG_VALUE_{position}": value}
    if target.has_credentials:
        values["OUTBOUND_USERNAME"] = target.username
        values["OUTBOUND_PASSWORD"] = target.password.get_secret_value()
    return values


def _listed(target: Target) -> str:
    return ",".join(f"[{ip}]" if ip.version == 6 else str(ip) for ip in target.addresses)
