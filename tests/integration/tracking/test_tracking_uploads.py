"""Uploads and downloads as the gateway arranges them, in the whole management service."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from nautilus.core.identity import Credential, CredentialKind
from nautilus.gitlab.port import Visibility
from nautilus.testing.world import World, started
from nautilus.tracking import artifacts

TWO = "/api/2.0/mlflow"
GATEWAY = {"X-Nautilus-Gateway": "1"}


@pytest.fixture
async def world(management_database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with started(tmp_path, management_database_url) as running:
        running.settings.spool_dir.mkdir(parents=True, exist_ok=True)
        yield running


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=world.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://nautilus.test", headers={"Authorization": "Bearer glpat-ada"}
    ) as made:
        yield made


@pytest.fixture
async def base(world: World, client: httpx.AsyncClient) -> str:
    """Where the artifacts of a run of Ada's are uploaded to."""
    from pydantic import SecretStr

    ada = world.gitlab.acting(Credential(CredentialKind.PERSONAL, SecretStr("glpat-ada")))
    project = await ada.create_project("digits", Visibility.PRIVATE)
    answer = await client.post(f"{TWO}/runs/create", json={"experiment_id": str(project.id)})
    run_id = answer.json()["run"]["info"]["run_id"]
    return f"/api/2.0/mlflow-artifacts/artifacts/{project.id}/{run_id}/artifacts"


def _stored(world: World, base: str, name: str) -> Path:
    return (
        world.settings.data_dir
        / "artifacts"
        / base.removeprefix("/api/2.0/mlflow-artifacts/artifacts/")
        / name
    )


def _spool(world: World, content: bytes) -> Path:
    path = world.settings.spool_dir / "0000000001"
    path.write_bytes(content)
    return path


async def _question(client: httpx.AsyncClient, method: str, uri: str, token: str = "glpat-ada") -> int:
    headers = {"X-Original-Method": method, "X-Original-URI": uri, "Authorization": f"Bearer {token}"}
    return (await client.get("/internal/upload/authorize", headers=headers)).status_code


async def test_a_spooled_body_is_taken_over_before_nginx_deletes_it(
    world: World, client: httpx.AsyncClient, base: str
) -> None:
    spooled = _spool(world, b"spooled bytes")
    answer = await client.put(f"{base}/a.bin", headers={**GATEWAY, "X-Nautilus-Body-File": str(spooled)})
    assert answer.status_code == 200
    spooled.unlink()
    assert _stored(world, base, "a.bin").read_bytes() == b"spooled bytes"
    assert list((world.settings.data_dir / "tmp").iterdir()) == []


async def test_a_spooled_body_on_another_filesystem_is_copied(
    world: World, client: httpx.AsyncClient, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(artifacts.os, "link", no_link)
    spooled = _spool(world, b"copied")
    answer = await client.put(f"{base}/a.bin", headers={"X-Nautilus-Body-File": str(spooled)})
    assert answer.status_code == 200
    assert _stored(world, base, "a.bin").read_bytes() == b"copied"


async def test_a_body_outside_of_the_spool_is_not_taken(
    world: World, client: httpx.AsyncClient, base: str
) -> None:
    secret = world.settings.admin_token_file
    link = world.settings.spool_dir / "link"
    link.symlink_to(secret)
    folder = world.settings.spool_dir / "folder"
    folder.symlink_to(secret.parent)
    for path in (
        secret, link, folder / secret.name, world.settings.spool_dir, "relative", "/etc/passwd",
        f"{world.settings.spool_dir}/../secrets/{secret.name}", f"{world.settings.spool_dir}/nothing",
    ):  # fmt: skip
        answer = await client.put(f"{base}/a.bin", headers={"X-Nautilus-Body-File": str(path)}, content=b"")
        assert answer.status_code == 400, path
        assert not _stored(world, base, "a.bin").exists()


async def test_the_gateways_question_is_answered_by_the_same_rules(
    world: World, client: httpx.AsyncClient, base: str
) -> None:
    world.gitlab.add_user("eve", "glpat-eve")
    assert await _question(client, "PUT", f"{base}/a%20b.txt?x=1") == 200
    assert await _question(client, "PUT", f"{base}/a.txt", token="glpat-eve") == 404
    assert await _question(client, "PUT", f"{base}/a.txt", token="wrong") == 401
    assert await _question(client, "PUT", f"{base}/../../x") == 400
    assert await _question(client, "PUT", f"{base}/%2e%2e/x") == 400
    assert await _question(client, "DELETE", f"{base}/a.txt") == 404
    assert await _question(client, "PUT", "/api/2.0/mlflow/runs/create") == 404


async def test_a_download_goes_out_by_the_gateway(world: World, client: httpx.AsyncClient, base: str) -> None:
    name = "odd näme #1.txt".replace("#", "")
    assert (await client.put(f"{base}/{name}", content=b"bytes")).status_code == 200
    answer = await client.get(f"{base}/{name}", headers=GATEWAY)
    run = base.removeprefix("/api/2.0/mlflow-artifacts/artifacts/")
    assert answer.headers["x-accel-redirect"] == f"/_management/artifacts/{run}/odd%20n%C3%A4me%201.txt"
    assert (answer.content, answer.headers["content-type"]) == (b"", "text/plain")
    assert "filename*=UTF-8''odd%20n%C3%A4me%201.txt" in answer.headers["content-disposition"]
    assert (await client.get(f"{base}/{name}")).content == b"bytes"


async def test_an_upload_is_whole_or_absent(
    world: World, client: httpx.AsyncClient, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure at each step of storing leaves no file of that name, or the old one."""
    assert (await client.put(f"{base}/a.bin", content=b"old")).status_code == 200
    for step in ("fsync", "rename"):
        with monkeypatch.context() as broken:

            def fail(*_: object, **__: object) -> None:
                raise OSError(28, "No space left on device")

            broken.setattr(artifacts.os, step, fail)
            answer = await client.put(f"{base}/a.bin", content=b"new")
            fresh = await client.put(f"{base}/{step}.bin", content=b"new")
        assert (answer.status_code, answer.json()["error_code"]) == (507, "RESOURCE_EXHAUSTED")
        assert fresh.status_code == 507
        assert _stored(world, base, "a.bin").read_bytes() == b"old"
        assert not _stored(world, base, f"{step}.bin").exists()
        assert list((world.settings.data_dir / "tmp").iterdir()) == []


async def test_what_a_crash_left_is_cleared(tmp_path: Path) -> None:
    store = artifacts.ArtifactStore(tmp_path / "data", tmp_path / "spool")
    store.prepare()
    (tmp_path / "data" / "tmp" / "artifact-0011").write_bytes(b"half")
    artifacts.ArtifactStore(tmp_path / "data", tmp_path / "spool").prepare()
    assert list((tmp_path / "data" / "tmp").iterdir()) == []


async def test_stored_files_are_the_services_alone(
    world: World, client: httpx.AsyncClient, base: str
) -> None:
    old = os.umask(0)
    try:
        assert (await client.put(f"{base}/a.bin", content=b"x")).status_code == 200
    finally:
        os.umask(old)
    stored = _stored(world, base, "a.bin")
    assert stat.S_IMODE(stored.stat().st_mode) & 0o007 == 0
    assert stat.S_IMODE(stored.parent.stat().st_mode) & 0o007 == 0


async def test_the_whole_service_answers_mlflow(client: httpx.AsyncClient) -> None:
    assert (await client.get("/version")).text.startswith("3.")
    assert (await client.get("/api/3.0/mlflow/server-info")).status_code == 200
    unknown = await client.post("/api/3.0/mlflow/traces", json={})
    assert (unknown.status_code, unknown.json()["error_code"]) == (404, "FEATURE_DISABLED")


async def test_a_signed_in_page_reads_but_writes_only_with_its_token(
    world: World, base: str, client: httpx.AsyncClient
) -> None:
    assert (await client.put(f"{base}/a.txt", content=b"x")).status_code == 200
    async with world.browser() as browser:
        await browser.sign_in("ada")
        assert (await browser.get(f"{base}/a.txt")).content == b"x"
        forged = await browser.put(f"{base}/a.txt", content=b"forged")
        assert forged.status_code == 403
    assert _stored(world, base, "a.txt").read_bytes() == b"x"
