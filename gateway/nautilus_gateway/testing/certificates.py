"""A certificate for a test, made by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

from nautilus_gateway.model import Tls


def self_signed(folder: Path, *names: str, days: int = 1, stem: str = "server") -> Tls:
    """A self-signed certificate of `names` (openssl's words, such as `DNS:localhost`, `IP:127.0.0.1`)."""
    tls = Tls(folder / f"{stem}.pem", folder / f"{stem}.key")
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", str(days)]
    subject = ["-subj", "/CN=test", "-addext", f"subjectAltName={','.join(names or ('DNS:localhost',))}"]
    files = ["-keyout", str(tls.key), "-out", str(tls.certificate)]
    argv = ["openssl", "req", "-x509", *kind, *subject, *files]
    subprocess.run(argv, check=True, capture_output=True)
    return tls
