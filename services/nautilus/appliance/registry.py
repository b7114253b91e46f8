"""The `registry` program: Debian's docker-registry (Docker's distribution, version 2.8 or 3), rendered and exec'd.

It keeps images below HOME/registry, listens on a unix socket behind the gateway, and believes the tokens that the
forge (or GitLab) signs with the key that is made here, once.
"""

from __future__ import annotations

import datetime
import json
import os
import secrets
import shutil
import sys
from dataclasses import dataclass

from nautilus.appliance.errors import MissingProgram, SettingError
from nautilus.appliance.files import is_held, replace_private
from nautilus.appliance.layout import Layout
from nautilus.appliance.settings import ApplianceSettings, RegistrySettings

SERVICE = "container_registry"
ISSUER = "gitlab-issuer"
"""As the forge has them in its tokens, and GitLab by default."""

KEY_NAME, CERTIFICATE_NAME, HTTP_SECRET_NAME = (
    "registry_key.pem",
    "registry_certificate.pem",
    "registry_http_secret",
)
_KEY_BITS = 2048


@dataclass(frozen=True)
class RegistryChoice:
    """`program` '' where there is no registry; `reason` says why, or which one it is."""

    program: str
    reason: str

    @property
    def is_on(self) -> bool:
        return bool(self.program)


def choose_registry(settings: ApplianceSettings) -> RegistryChoice:
    """NAUTILUS_DOCKER_REGISTRY, else the PATH's docker-registry, unless it is switched off. Raises SettingError."""
    if settings.container_registry == "off":
        return RegistryChoice("", "switched off (NAUTILUS_CONTAINER_REGISTRY=off)")
    if settings.docker_registry is not None:
        if not os.access(settings.docker_registry, os.X_OK) or not settings.docker_registry.is_file():
            raise SettingError(
                f"NAUTILUS_DOCKER_REGISTRY={str(settings.docker_registry)!r}: there is no program that can be run"
            )
        return RegistryChoice(str(settings.docker_registry), "named by NAUTILUS_DOCKER_REGISTRY")
    found = shutil.which("docker-registry", path=os.environ.get("PATH", "") + ":/usr/bin")
    if found is None:
        return RegistryChoice("", "docker-registry is not installed: run `apt-get install docker-registry`")
    return RegistryChoice(found, found)


def configuration(layout: Layout, realm: str, http_secret: str, *, read_only: bool) -> str:
    """registry.yml, in what versions 2.8 and 3 both know. Pure.

    No cache of blobs: garbage collection is another process, and a cache would still know what that deleted.
    Source: https://distribution.github.io/distribution/about/configuration/.
    """
    return f"""\
# Made at each start by nautilus.appliance.registry: change nothing here.
version: 0.1
log:
  level: error
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: {json.dumps(str(layout.registry))}
  delete:
    enabled: true
  maintenance:
    uploadpurging:
      enabled: true
      age: 168h
      interval: 24h
      dryrun: false
    readonly:
      enabled: {json.dumps(read_only)}
http:
  net: unix
  addr: {json.dumps(str(layout.registry_socket))}
  secret: {json.dumps(http_secret)}
  draintimeout: 5s
  headers:
    X-Content-Type-Options: [nosniff]
auth:
  token:
    realm: {json.dumps(realm)}
    service: {SERVICE}
    issuer: {ISSUER}
    rootcertbundle: {json.dumps(str(layout.secret(CERTIFICATE_NAME)))}
health:
  storagedriver:
    enabled: false
"""


def ensure_signing_key(layout: Layout) -> None:
    """The key that signs tokens and its certificate, made once; both 0600, the certificate last."""
    certificate = layout.secret(CERTIFICATE_NAME)
    if certificate.exists():
        return
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import NameOID

    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Nautilus container registry tokens")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    replace_private(layout.secret(KEY_NAME), pem)
    replace_private(certificate, made.public_bytes(Encoding.PEM))


def ensure_http_secret(layout: Layout) -> str:
    """What the registry signs the state of uploads with; kept, so that a restart breaks none of them off."""
    path = layout.secret(HTTP_SECRET_NAME)
    if not path.exists():
        replace_private(path, secrets.token_urlsafe(32) + "\n")
    return path.read_text("ascii").strip()


def is_being_collected(layout: Layout) -> bool:
    """Whether a garbage collection runs: it holds the lock, and the registry must then take no writes."""
    return is_held(layout.registry_lock)


def prepare(settings: RegistrySettings) -> list[str]:
    """Everything that the registry needs, and the command that it is."""
    layout = Layout(settings.home)
    ensure_signing_key(layout)
    layout.registry.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = configuration(
        layout,
        f"{settings.gitlab_external_url}/jwt/auth",
        ensure_http_secret(layout),
        read_only=is_being_collected(layout),
    )
    replace_private(layout.registry_configuration, text)
    layout.registry_socket.unlink(missing_ok=True)
    return [settings.program, "serve", str(layout.registry_configuration)]


def main() -> None:
    settings = RegistrySettings.from_environment()
    if not os.access(settings.program, os.X_OK):
        raise SystemExit(str(MissingProgram(f"{settings.program} cannot be run: install docker-registry")))
    argv = prepare(settings)
    sys.stdout.flush()
    os.umask(0o077)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
    os.execve(argv[0], argv, environment | {"OTEL_TRACES_EXPORTER": "none", "GOGC": "50"})


if __name__ == "__main__":
    main()
