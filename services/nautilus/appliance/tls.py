"""What the gateway's TLS is made of, and which CAs the appliance and its jobs trust: made true at each start."""

from __future__ import annotations

import os
import socket
import ssl
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from nautilus.appliance.accounts import Accounts
from nautilus.appliance.addresses import host_of
from nautilus.appliance.errors import SettingError
from nautilus.appliance.executor import JOB_HOST
from nautilus.appliance.files import replace_public
from nautilus.appliance.folders import write_private
from nautilus.appliance.job_network import interface_addresses
from nautilus.appliance.layout import Layout
from nautilus.appliance.plan import Plan
from nautilus.appliance.settings import ApplianceSettings, trusted_ca_files
from nautilus_gateway import Tls

if TYPE_CHECKING:
    from nautilus.appliance.certificates import Checked

TRUST_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT")
"""What makes Python, requests (and with it mlflow), curl, git and pip trust a bundle of CAs."""
_SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)


def ensure_tls(settings: ApplianceSettings, plan: Plan, who: Accounts) -> Tls | None:
    """The certificate and key that the gateway serves; None where it speaks no TLS.

    Raises SettingError: a line for each thing that is wrong with the user's files.
    """
    layout = settings.layout
    if plan.tls == "own-ca":
        return _ensure_own_ca(layout, certificate_names(settings, plan), who)
    if plan.tls == "files":
        checked = file_problems(settings, plan)
        for warning in checked.warnings:
            print(f"nautilus: warning: {warning}", file=sys.stderr, flush=True)
        if checked.problems:
            raise SettingError("\n".join(checked.problems))
        return _given_files(settings)
    return None


def file_problems(settings: ApplianceSettings, plan: Plan) -> Checked:
    """What is wrong with the user's certificate for this plan's addresses."""
    from nautilus.appliance.certificates import check_files

    files = _given_files(settings)
    urls = (plan.external_url, plan.gitlab_external_url, plan.registry_external_url)
    return check_files(files.certificate, files.key, map(host_of, urls))


def certificate_names(settings: ApplianceSettings, plan: Plan) -> list[str]:
    """Every name and address under which people, jobs and this machine may come."""
    urls = (plan.external_url, plan.gitlab_external_url, plan.registry_external_url)
    jobs = [part for host in plan.extra_hosts for part in host.split(":", 1)]
    listen = [address for address in plan.listen if address not in ("0.0.0.0", "::")]
    everywhere = len(listen) < len(plan.listen)
    names = [
        *map(host_of, urls),
        *settings.tls_names,
        plan.ssh_host,
        "localhost",
        JOB_HOST,
        *jobs,
        *_host_names(),
        "127.0.0.1",
        "::1",
        *listen,
        *(interface_addresses() if everywhere else ()),
    ]
    return list(dict.fromkeys(names))


def ensure_trust(settings: ApplianceSettings, plan: Plan) -> None:
    """The bundle of the system's CAs, those that were given, and our own; none where nothing was added.

    Raises SettingError where a given file holds no certificate.
    """
    layout, added = settings.layout, trusted_ca_files(settings)
    problems = trust_problems(added)
    if problems:
        raise SettingError("\n".join(problems))
    if not plan.ca_bundle:
        layout.ca_bundle.unlink(missing_ok=True)
        return
    own = [layout.ca_certificate] if plan.tls == "own-ca" else []
    parts = [path.read_text().strip() for path in (*_system_bundle(), *added, *own)]
    replace_public(layout.ca_bundle, "\n".join(parts) + "\n")


def trust_problems(files: Iterable[Path]) -> list[str]:
    """A line for each given file that OpenSSL cannot take as certificates of authorities."""
    found = []
    for path in files:
        try:
            ssl.create_default_context().load_verify_locations(cadata=path.read_text())
        except OSError as error:  # ssl.SSLError is one too
            reason = (
                "it holds no certificate in PEM form" if isinstance(error, ssl.SSLError) else error.strerror
            )
            found.append(f"NAUTILUS_CA_FILE={path} cannot be used: {reason}")
        except ValueError:
            found.append(f"NAUTILUS_CA_FILE={path} cannot be used: it holds no certificate in PEM form")
    return found


def trust_environment(plan: Plan) -> dict[str, str]:
    """What makes Python, requests, git, curl and pip trust the bundle; empty where there is none."""
    return dict.fromkeys(TRUST_VARIABLES, plan.ca_bundle) if plan.ca_bundle else {}


def _given_files(settings: ApplianceSettings) -> Tls:
    if settings.tls_certificate is None or settings.tls_key is None:
        raise SettingError("NAUTILUS_TLS=files: set NAUTILUS_TLS_CERTIFICATE and NAUTILUS_TLS_KEY")
    return Tls(settings.tls_certificate, settings.tls_key)


def _ensure_own_ca(layout: Layout, names: list[str], who: Accounts) -> Tls:
    """The authority is made once; the server's certificate again whenever its names or its time ask for it."""
    from nautilus.appliance.certificates import Issued, is_ca_usable, is_server_usable, issue_ca, issue_server

    ca_key, server_key = layout.secret("tls_ca_key.pem"), layout.secret("tls_server_key.pem")
    server_certificate = layout.tls / "server.pem"
    ca = Issued(_bytes(layout.ca_certificate), _bytes(ca_key))
    if not is_ca_usable(ca):
        ca = issue_ca(f"Nautilus CA of {names[0]}")
        write_private(ca_key, ca.key.decode(), who)
        replace_public(layout.ca_certificate, ca.certificate.decode())
    server = Issued(_bytes(server_certificate), _bytes(server_key))
    if not is_server_usable(server, ca, names):
        server = issue_server(ca, names)
        write_private(server_key, server.key.decode(), who)
        replace_public(server_certificate, server.certificate.decode())
    return Tls(server_certificate, server_key)


def _host_names() -> list[str]:
    name = socket.gethostname().lower()
    return (
        [name]
        if name.isascii() and 0 < len(name) < 64 and all(c.isalnum() or c in "-." for c in name)
        else []
    )


def _system_bundle() -> list[Path]:
    given = os.environ.get("SSL_CERT_FILE")
    candidates = [*([given] if given else []), *_SYSTEM_BUNDLES]
    return [Path(path) for path in candidates if Path(path).is_file()][:1]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
