"""Artifacts as MLflow's client moves them, and what must never be reached through them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from nautilus.gitlab.port import Project
from nautilus.testing.tracking_server import TrackingServer

CANARY = "the canary sings"
PREFIX = "/api/2.0/mlflow-artifacts/artifacts"


@pytest.fixture
def raw(server: TrackingServer, project: Project) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers={"Authorization": "Bearer glpat-ada"})


@pytest.fixture
def root(server: TrackingServer, project: Project, run_id: str) -> Path:
    """Where the run's artifacts lie on disk."""
    return server.home / "management" / "artifacts" / str(project.id) / run_id / "artifacts"


@pytest.fixture
def base(project: Project, run_id: str) -> str:
    return f"{PREFIX}/{project.id}/{run_id}/artifacts"


def test_files_go_up_and_come_back_whole(ada: MlflowClient, run_id: str, tmp_path: Path) -> None:
    big = tmp_path / "big.bin"
    big.write_bytes(bytes(range(251)) * 20_000)
    (tmp_path / "odd näme & co.txt").write_text("ünïcode")
    (tmp_path / "empty").write_bytes(b"")
    for file in ("big.bin", "odd näme & co.txt", "empty"):
        ada.log_artifact(run_id, str(tmp_path / file), "some/where")
    found = {a.path: a.file_size for a in ada.list_artifacts(run_id, "some/where")}
    assert found == {
        "some/where/big.bin": 5_020_000,
        "some/where/odd näme & co.txt": 9,
        "some/where/empty": 0,
    }
    assert [(a.path, a.is_dir) for a in ada.list_artifacts(run_id)] == [("some", True)]
    local = Path(ada.download_artifacts(run_id, "some", str(tmp_path)))
    assert (local / "where" / "big.bin").read_bytes() == big.read_bytes()
    assert (local / "where" / "odd näme & co.txt").read_text() == "ünïcode"


def test_a_file_is_replaced(ada: MlflowClient, run_id: str, root: Path) -> None:
    ada.log_text(run_id, "one", "a.txt")
    ada.log_text(run_id, "two", "a.txt")
    assert (root / "a.txt").read_text() == "two"


def test_listing_a_file_or_nothing_is_empty(ada: MlflowClient, run_id: str) -> None:
    ada.log_text(run_id, "x", "dir/a.txt")
    assert ada.list_artifacts(run_id, "dir/a.txt") == []
    assert ada.list_artifacts(run_id, "nowhere") == []


def test_a_file_is_no_folder_and_a_folder_no_file(ada: MlflowClient, run_id: str) -> None:
    ada.log_text(run_id, "x", "a/b.txt")
    for path in ("a", "a/b.txt/c.txt"):
        with pytest.raises(Exception, match="400"):
            ada.log_text(run_id, "x", path)


def test_what_is_not_there_is_not_found(ada: MlflowClient, run_id: str) -> None:
    with pytest.raises(MlflowException, match="Failed to download"):
        mlflow.artifacts.load_text(f"runs:/{run_id}/nothing.txt")


def test_deleting_a_folder_takes_all_of_it(
    raw: httpx.Client, ada: MlflowClient, run_id: str, base: str, root: Path
) -> None:
    ada.log_text(run_id, "x", "a/b/c.txt")
    ada.log_text(run_id, "x", "a2.txt")
    assert raw.delete(f"{base}/a").status_code == 200
    assert raw.delete(f"{base}/a").status_code == 200
    assert [p.name for p in root.iterdir()] == ["a2.txt"]


def test_downloads_have_ranges_and_run_nothing(
    raw: httpx.Client, ada: MlflowClient, run_id: str, base: str
) -> None:
    ada.log_text(run_id, "0123456789", "page.html")
    whole = raw.get(f"{base}/page.html")
    assert (whole.text, whole.headers["accept-ranges"]) == ("0123456789", "bytes")
    assert whole.headers["content-disposition"].startswith("attachment")
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in whole.headers["content-security-policy"]
    for asked, status, body in (
        ("bytes=2-4", 206, "234"),
        ("bytes=7-", 206, "789"),
        ("bytes=-3", 206, "789"),
        ("bytes=5-99", 206, "56789"),
        ("bytes=10-", 416, ""),
        ("bytes=-0", 416, ""),
        ("lines=1-2", 200, "0123456789"),
        ("bytes=1-2,4-5", 200, "0123456789"),
        ("bytes=4-2", 200, "0123456789"),
    ):
        answer = raw.get(f"{base}/page.html", headers={"Range": asked})
        assert (answer.status_code, answer.text) == (status, body), asked
    assert (
        raw.get(f"{base}/page.html", headers={"Range": "bytes=2-4"}).headers["content-range"]
        == "bytes 2-4/10"
    )
    head = raw.head(f"{base}/page.html")
    assert (head.headers["content-length"], head.text) == ("10", "")


def test_multipart_uploads_fall_back_to_whole_files(
    raw: httpx.Client,
    ada: MlflowClient,
    project: Project,
    run_id: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = f"/api/2.0/mlflow-artifacts/mpu/create/{project.id}/{run_id}/artifacts"
    answer = raw.post(where, json={"path": "a", "num_parts": 2})
    assert answer.status_code == 501
    assert answer.json()["error_code"] == "NOT_IMPLEMENTED"
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "1000")
    (tmp_path / "big").write_bytes(b"x" * 100_000)
    ada.log_artifact(run_id, str(tmp_path / "big"))
    assert [(a.path, a.file_size) for a in ada.list_artifacts(run_id)] == [("big", 100_000)]


def _names_below(folder: Path) -> Iterator[Path]:
    """Of files and folders at any depth."""
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in (*folders, *files))


def _hostile_paths(base: str, home: Path) -> list[str]:
    up = ["..", "%2e%2e", "%252e%252e", ".%2e", "..%2f..%2f..%2f..", "..%5c..", "%2e%2e%5c", "%25252e%25252e"]
    return [
        *(f"{base}/{step}/{step}/{step}/{step}/canary.txt" for step in up),
        f"{base}/..%2f..%2f..%2f..%2fcanary.txt",
        f"{base}/%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2fcanary.txt",
        f"{base}/%252e%252e%252f%252e%252e%252f%252e%252e%252fcanary.txt",
        f"{base}/{home / 'management' / 'canary.txt'!s}",
        f"{base}/%2F{str(home / 'management' / 'canary.txt').replace('/', '%2F')}",
        f"{base}/file:%2F%2F{str(home / 'management' / 'canary.txt').replace('/', '%2F')}",
        f"{base}/link.txt",
        f"{base}/links/canary.txt",
        f"{base}/..%00/canary.txt",
        f"{base}/C:%5ccanary.txt",
        f"{base}/./../canary.txt",
        f"{base}//canary.txt",
        f"{PREFIX}/../canary.txt",
        f"{PREFIX}/..%2fcanary.txt",
        f"{PREFIX}/%2e%2e/canary.txt",
        f"{PREFIX}/1/../../canary.txt",
    ]


def test_no_path_leads_out(
    server: TrackingServer, ada: MlflowClient, run_id: str, base: str, root: Path
) -> None:
    """The canary lies above the artifacts, a symlink to it and to its folder among them."""
    canary = server.home / "management" / "canary.txt"
    ada.log_text(run_id, "x", "a.txt")
    canary.write_text(CANARY)
    (root / "link.txt").symlink_to(canary)
    (root / "links").symlink_to(canary.parent)
    before = set(_names_below(server.home))
    for path in _hostile_paths(base, server.home):
        for method in ("GET", "PUT", "DELETE"):
            status, body = _plain_request(server.url, method, path)
            assert CANARY.encode() not in body, (method, path)
            # Writing to a link's own name replaces the link; deleting what is not there is fine.
            is_harmless = method == "DELETE" or (method == "PUT" and path.endswith("/link.txt"))
            assert status in (400, 404) or (is_harmless and status == 200), (method, path, status, body)
    assert canary.read_text() == CANARY
    after = set(_names_below(server.home))
    assert before - after <= {root / "link.txt"}
    assert after <= before
    listing = httpx.get(
        server.url + PREFIX,
        params={"path": f"{base.removeprefix(PREFIX + '/')}/../../../.."},
        headers={"Authorization": "Bearer glpat-ada"},
    )
    assert listing.status_code == 400
    assert [a.path for a in ada.list_artifacts(run_id)] == ["a.txt"]
    with pytest.raises(Exception, match="400"):
        ada.list_artifacts(run_id, "../..")


def _plain_request(url: str, method: str, path: str) -> tuple[int, bytes]:
    """The path as it is: clients would tidy it up."""
    import socket

    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer glpat-ada\r\nConnection: close\r\n"
        )
        connection.sendall(f"{head}Content-Length: 1\r\n\r\nx".encode())
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return int(answer.split()[1]), answer
