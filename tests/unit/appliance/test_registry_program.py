"""The container registry's program: whether there is one, its configuration, its key."""

from __future__ import annotations

import fcntl
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from nautilus.appliance import registry
from nautilus.appliance.errors import SettingError
from nautilus.appliance.layout import Layout
from nautilus.appliance.settings import ApplianceSettings, RegistrySettings


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / 'a "home" with # signs')
    for folder in (made.etc, made.secrets, made.home / "run"):
        folder.mkdir(parents=True)
    return made


def program(folder: Path, mode: int = 0o755) -> Path:
    path = folder / "docker-registry"
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


def chosen(
    monkeypatch: pytest.MonkeyPatch, path: str = "/nowhere", **settings: object
) -> registry.RegistryChoice:
    monkeypatch.setattr(
        registry.shutil, "which", lambda name, path: f"{path}!{name}" if "has" in path else None
    )
    monkeypatch.setenv("PATH", path)
    return registry.choose_registry(ApplianceSettings(Path("/home"), **settings))  # type: ignore[arg-type]


def test_it_is_on_where_the_program_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, "/has").is_on
    missing = chosen(monkeypatch)
    assert not missing.is_on
    assert "apt-get install docker-registry" in missing.reason


def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    off = chosen(monkeypatch, "/has", container_registry="off")
    assert (off.is_on, off.reason) == (False, "switched off (NAUTILUS_CONTAINER_REGISTRY=off)")


def test_a_named_program_must_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = program(tmp_path)
    assert chosen(monkeypatch, docker_registry=named).program == str(named)
    for wrong in (tmp_path, tmp_path / "missing", program(tmp_path, 0o644)):
        with pytest.raises(SettingError, match="there is no program that can be run"):
            chosen(monkeypatch, docker_registry=wrong)


@pytest.mark.parametrize("read_only", [True, False])
def test_the_configuration_is_yaml_whatever_the_values(layout: Layout, read_only: bool) -> None:
    realm = "https://git.example:10080/jwt/auth"
    read = yaml.safe_load(registry.configuration(layout, realm, 'a: "secret" #', read_only=read_only))
    assert read["storage"]["filesystem"]["rootdirectory"] == str(layout.registry)
    assert read["storage"]["maintenance"]["readonly"]["enabled"] is read_only
    assert read["storage"]["delete"]["enabled"] is True
    assert (read["http"]["net"], read["http"]["addr"]) == ("unix", str(layout.registry_socket))
    assert read["http"]["secret"] == 'a: "secret" #'
    assert read["auth"]["token"] == {
        "realm": realm,
        "service": "container_registry",
        "issuer": "gitlab-issuer",
        "rootcertbundle": str(layout.secret("registry_certificate.pem")),
    }


def test_key_and_secret_are_made_once_and_for_us_alone(layout: Layout) -> None:
    settings = RegistrySettings(layout.home, "/bin/true", "http://localhost:10080")
    names = (registry.KEY_NAME, registry.CERTIFICATE_NAME, registry.HTTP_SECRET_NAME)

    def contents() -> list[bytes]:
        return [layout.secret(name).read_bytes() for name in names]

    assert registry.prepare(settings) == ["/bin/true", "serve", str(layout.registry_configuration)]
    before = contents()
    registry.prepare(settings)
    assert contents() == before
    for path in (*map(layout.secret, names), layout.registry_configuration):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = load_pem_private_key(before[0], None)
    certificate = x509.load_pem_x509_certificate(before[1])
    assert certificate.public_key() == key.public_key()
    assert certificate.not_valid_after_utc > datetime(2100, 1, 1, tzinfo=UTC)


def test_a_key_without_its_certificate_was_never_finished(layout: Layout) -> None:
    layout.secret(registry.KEY_NAME).write_bytes(b"half")
    registry.ensure_signing_key(layout)
    assert load_pem_private_key(layout.secret(registry.KEY_NAME).read_bytes(), None)


def test_it_takes_no_writes_while_a_collection_holds_the_lock(layout: Layout) -> None:
    assert not registry.is_being_collected(layout)
    fd = os.open(layout.registry_lock, os.O_RDWR | os.O_CREAT)
    assert not registry.is_being_collected(layout)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert registry.is_being_collected(layout)
    os.close(fd)
    assert not registry.is_being_collected(layout)


def test_a_program_that_was_started_by_hand_says_what_it_lacks() -> None:
    with pytest.raises(SettingError, match="NAUTILUS_DOCKER_REGISTRY is not set"):
        RegistrySettings.from_environment({"NAUTILUS_HOME": "/x"})
