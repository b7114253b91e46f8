"""Settings that are fine one by one and cannot be used together. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nautilus.appliance.settings import ApplianceSettings


def contradictions(settings: ApplianceSettings, mode: str) -> list[str]:
    """A line for each pair of values that do not go together; `mode` is what tls_mode() says of them."""
    s, found = settings, []
    if (s.tls_certificate is None) != (s.tls_key is None):
        found.append("NAUTILUS_TLS_CERTIFICATE and NAUTILUS_TLS_KEY belong together: set both, or neither")
    if s.tls == "files" and s.tls_certificate is None:
        found.append("NAUTILUS_TLS=files: set NAUTILUS_TLS_CERTIFICATE and NAUTILUS_TLS_KEY")
    if s.tls_certificate is not None and s.tls not in (None, "files"):
        found.append(f"NAUTILUS_TLS={s.tls} does not go with NAUTILUS_TLS_CERTIFICATE: remove one of them")
    if s.tls == "proxy" and not s.trusted_proxies:
        found.append("NAUTILUS_TLS=proxy: set NAUTILUS_TRUSTED_PROXIES to the proxy's address or network")
    if mode == "files" and s.external_url is None:
        found.append(
            "NAUTILUS_TLS_CERTIFICATE: set NAUTILUS_EXTERNAL_URL=https://HOST, a host of the certificate"
        )
    found += _scheme_contradictions(s, mode)
    if s.bundled_runner == "gitlab" and s.job_network_mode != "full":
        found.append(
            f"NAUTILUS_JOB_NETWORK_MODE={s.job_network_mode}: a stock gitlab-runner does not keep jobs to it; use ours "
            "(NAUTILUS_BUNDLED_RUNNER=nautilus), or leave it out"
        )
    if s.hsts_s and mode == "off":
        found.append("NAUTILUS_HSTS: nothing speaks TLS here; set NAUTILUS_TLS, or leave it out")
    return found


def _scheme_contradictions(settings: ApplianceSettings, mode: str) -> list[str]:
    """Addresses whose scheme is not what is spoken there."""
    s, found = settings, []
    if mode == "off" and (s.external_url or "").startswith("https://"):
        found.append(
            f"NAUTILUS_EXTERNAL_URL={s.external_url!r}: who speaks TLS? Set NAUTILUS_TLS_CERTIFICATE and "
            "NAUTILUS_TLS_KEY, or NAUTILUS_TLS=own-ca, or NAUTILUS_TRUSTED_PROXIES where a proxy does"
        )
    if mode != "off" and (s.external_url or "").startswith("http://"):
        found.append(
            f"NAUTILUS_EXTERNAL_URL={s.external_url!r}: with NAUTILUS_TLS={mode} it begins with https://"
        )
    if mode in ("files", "own-ca"):
        others = {
            "NAUTILUS_GITLAB_EXTERNAL_URL": s.gitlab_external_url,
            "NAUTILUS_REGISTRY_EXTERNAL_URL": s.registry_external_url,
        }
        found += [
            f"{name}={value!r}: every port speaks TLS, so it begins with https://"
            for name, value in others.items()
            if value is not None and value.startswith("http://")
        ]
    return found
