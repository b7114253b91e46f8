"""A CA of the user's own, mounted: the appliance's programs trust it, and the image's own folders stay as they are."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from nautilus.appliance.certificates import issue_ca
from nautilus.testing.containers import docker
from nautilus.testing.in_docker import Container

pytestmark = [pytest.mark.image, pytest.mark.timeout(120)]


def test_a_mounted_ca_is_trusted_besides_the_public_ones(
    lite_image: str, prefix: str, address: str, tmp_path: Path
) -> None:
    certificate = issue_ca("Harbour CA").certificate.decode()
    (tmp_path / "harbour.crt").write_text(certificate)
    argv = [
        *("run", "-d", "--name", prefix, "--publish", f"{address}:80:80"),
        *("--volume", f"{tmp_path}:/etc/nautilus/ca:ro", "--env", "NAUTILUS_BUNDLED_RUNNER=off", lite_image),
    ]
    Container(prefix, address, argv).start()
    script = "tr '\\0' '\\n' < /proc/$(pgrep -f 'python -m nautilus_forge' | head -1)/environ"
    environment = dict(
        line.split("=", 1)
        for line in docker("exec", "--user", "nautilus", prefix, "sh", "-c", script).splitlines()
    )
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO"):
        bundle = docker("exec", prefix, "cat", environment[name])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=bundle)
        subjects = [dict(pair[0] for pair in ca["subject"]) for ca in context.get_ca_certs()]
        assert {"commonName": "Harbour CA"} in subjects
        assert len(subjects) > 50
    changed = [line[2:] for line in docker("diff", prefix).splitlines()]
    assert not [path for path in changed if path.startswith(("/usr", "/etc/ssl", "/opt"))]
