"""Certificates: a user's files are checked before nginx sees them; an own CA and its server certificate are made.

Loaded only where TLS is on: the library takes a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nautilus.appliance.addresses import is_address

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey

CA_LIFE = timedelta(days=3650)
CA_RENEWAL = timedelta(days=900)
"""An authority with less than this left could not sign a server certificate that outlives it: a new one is made."""
SERVER_LIFE = timedelta(days=825)
"""The longest that Apple's clients take from a CA that a user installed (https://support.apple.com/en-us/103769)."""
SERVER_RENEWAL = timedelta(days=400)
"""With less than this left a new one is made at the start: so an appliance may run for a year between two."""
SOON = timedelta(days=14)
_SKEW = timedelta(hours=1)
"""Clients' clocks may be behind ours."""


@dataclass(frozen=True)
class Issued:
    """A certificate and its private key, as PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True)
class Checked:
    """`problems` keep the appliance from starting; `warnings` do not. Each is one line."""

    problems: list[str]
    warnings: list[str]


def check_files(certificate: Path, key: Path, hosts: Iterable[str], now: datetime | None = None) -> Checked:
    """Whether nginx can serve `hosts` with these files: readable, of one another, for those names, in time."""
    chain, key_problem = _read_chain(certificate), _key_problem(key)
    if isinstance(chain, str):
        return Checked([chain, *([key_problem] if key_problem else [])], [])
    leaf = chain[0]
    problems: list[str] = []
    warnings: list[str] = []
    if key_problem:
        problems.append(key_problem)
    elif not _belong_together(leaf, key):
        problems.append(
            f"NAUTILUS_TLS_KEY={key} is not the key of the first certificate in {certificate}: give the key that it "
            "was requested with, and put the server's certificate before its chain"
        )
    for host in dict.fromkeys(hosts):
        if not covers(leaf, host):
            problems.append(
                f"NAUTILUS_TLS_CERTIFICATE={certificate} is for {', '.join(names_of(leaf)) or 'no name'}, not for "
                f"{host}: use a certificate of that name, or another address"
            )
    problems += _time_problems(certificate, leaf, now or datetime.now(UTC), warnings)
    if len(chain) > 1 and chain[1].subject != leaf.issuer:
        warnings.append(
            f"NAUTILUS_TLS_CERTIFICATE={certificate}: the second certificate is not the issuer of the first; some "
            "clients will not trust it. Put the chain in order"
        )
    return Checked(problems, warnings)


def covers(certificate: x509.Certificate, host: str) -> bool:
    """Whether a client that asks for `host` takes it. Source: RFC 6125, 6.4 (subject alternative names alone)."""
    names = names_of(certificate)
    if is_address(host):
        return str(ip_address(host)) in names
    name = host.rstrip(".").lower()
    _, _, parent = name.partition(".")
    return any(one.lower() == name or (one == f"*.{parent}" and "." in parent) for one in names)


def names_of(certificate: x509.Certificate) -> list[str]:
    """Host names and addresses that the certificate is for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    return [*found.get_values_for_type(x509.DNSName), *addresses]


def issue_ca(name: str, now: datetime | None = None) -> Issued:
    """A new authority of its own, called `name`; it can sign servers' certificates and no further authority."""
    at, key = now or datetime.now(UTC), ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    usage = {"digital_signature": True, "key_cert_sign": True, "crl_sign": True}
    built = (
        _builder(subject, subject, key, at, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _issued(built.sign(key, hashes.SHA256()), key)


def issue_server(ca: Issued, names: Iterable[str], now: datetime | None = None) -> Issued:
    """A server's certificate for host names and addresses, signed by `ca`."""
    at, key = now or datetime.now(UTC), ec.generate_private_key(ec.SECP256R1())
    authority, signer = x509.load_pem_x509_certificate(ca.certificate), _ca_key(ca)
    wanted = list(dict.fromkeys(names))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, wanted[0][:64])])
    alternatives: list[x509.GeneralName] = [
        x509.IPAddress(ip_address(name)) if is_address(name) else x509.DNSName(name.rstrip("."))
        for name in wanted
    ]
    built = (
        _builder(subject, authority.subject, key, at, SERVER_LIFE)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage({"digital_signature": True}), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    return _issued(built.sign(signer, hashes.SHA256()), key)


def is_ca_usable(ca: Issued, now: datetime | None = None) -> bool:
    """Whether it can sign for a while yet, and its two parts belong together."""
    try:
        authority, key = x509.load_pem_x509_certificate(ca.certificate), _ca_key(ca)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
    left = authority.not_valid_after_utc - (now or datetime.now(UTC))
    return left > CA_RENEWAL and authority.public_key() == key.public_key()


def is_server_usable(server: Issued, ca: Issued, names: Iterable[str], now: datetime | None = None) -> bool:
    """Whether it is `ca`'s, for all of `names`, and good until the next start that can be expected."""
    try:
        certificate = x509.load_pem_x509_certificate(server.certificate)
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(ca.certificate))
        key = serialization.load_pem_private_key(server.key, None)
    except Exception:  # InvalidSignature, ValueError, TypeError, …: in every case a new one is made
        return False
    left = certificate.not_valid_after_utc - (now or datetime.now(UTC))
    return (
        left > SERVER_RENEWAL
        and certificate.public_key() == key.public_key()
        and all(covers(certificate, name) for name in names)
    )


def _read_chain(path: Path) -> list[x509.Certificate] | str:
    """The certificates of a PEM file, or the line that says why there is none."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        return f"NAUTILUS_TLS_CERTIFICATE={path} cannot be read: {error.strerror}; mount it, and let its reader in"
    except ValueError:
        return f"NAUTILUS_TLS_CERTIFICATE={path} is no certificate in PEM form (-----BEGIN CERTIFICATE-----)"


def _key_problem(path: Path) -> str:
    try:
        serialization.load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        return f"NAUTILUS_TLS_KEY={path} cannot be read: {error.strerror}; mount it, and let its reader in"
    except TypeError:
        return (
            f"NAUTILUS_TLS_KEY={path} is encrypted: give it without a password (`openssl pkey -in … -out …`)"
        )
    except (ValueError, UnsupportedAlgorithm):
        return f"NAUTILUS_TLS_KEY={path} is no private key in PEM form (-----BEGIN PRIVATE KEY-----)"
    return ""


def _belong_together(leaf: x509.Certificate, key: Path) -> bool:
    return leaf.public_key() == serialization.load_pem_private_key(key.read_bytes(), None).public_key()


def _time_problems(path: Path, leaf: x509.Certificate, now: datetime, warnings: list[str]) -> list[str]:
    first, last = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if now > last:
        return [f"NAUTILUS_TLS_CERTIFICATE={path} expired on {last:%Y-%m-%d}: renew it"]
    if now < first:
        return [
            f"NAUTILUS_TLS_CERTIFICATE={path} is good from {first:%Y-%m-%d %H:%M} UTC only: look at the clock"
        ]
    if last - now < SOON:
        warnings.append(f"NAUTILUS_TLS_CERTIFICATE={path} expires on {last:%Y-%m-%d}: renew it")
    return []


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey, at: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - _SKEW)
        .not_valid_after(at + life)
    )


def _key_usage(wanted: dict[str, bool]) -> x509.KeyUsage:
    everything = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: wanted.get(name, False) for name in everything})


def _ca_key(ca: Issued) -> PrivateKey:
    key = serialization.load_pem_private_key(ca.key, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not a key of ours")
    return key


def _issued(certificate: x509.Certificate, key: PrivateKey) -> Issued:
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Issued(certificate.public_bytes(pem), private)
