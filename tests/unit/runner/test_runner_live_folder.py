"""A job's folder as people look into it: whatever the job laid out, nothing leads out, nothing hangs."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from nautilus_runner.errors import LiveRefused
from nautilus_runner.live.desk import Answer, Desk, Request
from nautilus_runner.live.folder import DiskFolder
from nautilus_runner.live.link import nautilus_url
from nautilus_runner.settings import RunnerSettings
from nautilus_runner.variables import Variable, Variables


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("of somebody else")
    folder = tmp_path / "jobs" / "g" / "p"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def folder(work: Path, tmp_path: Path) -> DiskFolder:
    return DiskFolder(tmp_path / "jobs", "g/p", (os.geteuid(), os.getegid()))


def refused(call: Any, *args: Any) -> str:
    with pytest.raises(LiveRefused) as caught:
        call(*args)
    return caught.value.code


def read(folder: DiskFolder, path: str, offset: int = 0) -> bytes:
    with folder.open(path, offset).content as content:
        return content.read()


def test_nothing_leads_out_of_the_folder(folder: DiskFolder, work: Path, tmp_path: Path) -> None:
    (work / "link").symlink_to(tmp_path / "secret")
    (work / "up").symlink_to("../../..")
    (work / "loop").symlink_to("loop")
    for path in ("link", "up/secret", "../../secret", "/etc/passwd", "a/../../x", "loop", "loop/x", "x\0y"):
        for call in (folder.list, folder.write, lambda p: folder.open(p, 0)):
            assert refused(call, path) in ("bad_path", "not_found"), path
    assert (tmp_path / "secret").read_text() == "of somebody else"
    kinds = {item.name: (item.kind, bool(item.link)) for item in folder.list("").items}
    assert kinds == {"link": ("link", True), "up": ("link", True), "loop": ("link", True)}


def test_pipes_sockets_and_foreign_hard_links_are_never_read(folder: DiskFolder, work: Path) -> None:
    os.mkfifo(work / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(work / "socket"))
        assert {i.name: i.kind for i in folder.list("").items} == {"pipe": "other", "socket": "other"}
        for name in ("pipe", "socket"):
            assert refused(folder.open, name, 0) == "bad_path"
            assert refused(folder.write, name) == "bad_path"
    (work / "a").write_text("x")
    os.link(work / "a", work / "b")
    other = DiskFolder(work.parents[1], "g/p", (os.geteuid() + 1, os.getegid()))
    assert refused(other.open, "b", 0) == "bad_path"
    assert read(folder, "b") == b"x"


@pytest.mark.parametrize("name", ["ünï cödé", " ", "new\nline", "-rf", "%2e%2e", "a" * 255, "\udcff\udcfe"])
def test_odd_names_are_listed_and_read(folder: DiskFolder, work: Path, name: str) -> None:
    (work / name).write_bytes(b"\0binary\xff")
    [item] = folder.list("").items
    assert item.name == name and item.as_json()["name"].encode()
    assert read(folder, name, 1) == b"binary\xff"


def test_a_write_is_whole_or_nothing_and_keeps_permissions(folder: DiskFolder, work: Path) -> None:
    (work / "run.sh").write_text("old")
    (work / "run.sh").chmod(0o4750)
    (work / "hard").hardlink_to(work / "run.sh")
    half = folder.write("run.sh")
    half.add(b"half")
    half.close()
    assert (work / "run.sh").read_text() == "old"
    whole = folder.write("run.sh")
    whole.add(b"new")
    assert whole.finish().size == 3
    whole.close()
    assert (work / "run.sh").read_text() == "new" and (work / "hard").read_text() == "old"
    assert (work / "run.sh").stat().st_mode & 0o7777 == 0o750  # and never a set-user-id bit
    assert sorted(path.name for path in work.iterdir()) == ["hard", "run.sh"]


async def answered(folder: DiskFolder | None, content: bytes = b"", **fields: Any) -> tuple[Answer, bytes]:
    async def fetch() -> AsyncGenerator[bytes, None]:
        yield content

    answer = await Desk(lambda: folder).answer(Request(**fields), fetch)
    got = b"".join([part async for part in answer.content]) if answer.content else b""
    return answer, got


async def test_growing_shrinking_and_waiting(folder: DiskFolder, work: Path) -> None:
    (work / "log").write_text("12345")
    answer, got = await answered(folder, verb="read", path="log", offset=-2)
    assert (answer.head["offset"], answer.head["length"], got) == (3, 2, b"45")
    waiting = asyncio.create_task(answered(folder, verb="read", path="log", offset=5, wait_s=60))
    await asyncio.sleep(0)
    with (work / "log").open("a") as log:
        log.write("6")
    answer, got = await asyncio.wait_for(waiting, 30)
    assert (answer.head["offset"], got) == (5, b"6")
    (work / "log").write_text("1")
    answer, got = await answered(folder, verb="read", path="log", offset=6, wait_s=10)
    assert (answer.head["item"]["size_bytes"], answer.head["length"], got) == (1, 0, b"")


async def test_what_goes_wrong_is_an_answer(folder: DiskFolder) -> None:
    for fields, code in (
        ({"verb": "read", "path": "no"}, "not_found"),
        ({"verb": "read", "path": ""}, "is_folder"),
        ({"verb": "dance"}, "unknown"),
        ({"verb": "write", "path": "a", "length": 5}, "broken"),  # fewer bytes come
        ({"verb": "write", "path": "a"}, "unknown"),
    ):
        answer, _ = await answered(folder, b"abc", **fields)
        assert answer.head["error"]["code"] == code, fields
    assert not folder.list("").items
    assert (await answered(None, verb="list"))[0].head["error"]["code"] == "not_ready"


def test_only_a_nautilus_of_ours_is_spoken_to() -> None:
    def url(uri: str, run: str = "1", **fields: Any) -> str:
        settings = RunnerSettings(url="http://gitlab.test:10080", token="t", **fields)
        named = (Variable("MLFLOW_TRACKING_URI", uri), Variable("MLFLOW_RUN_ID", run))
        return nautilus_url(Variables(named, ""), settings)

    assert url("http://gitlab.test:8080/") == "http://gitlab.test:8080"
    assert url("http://[") == url("nonsense") == ""
    assert url("http://169.254.169.254/") == ""
    assert url("http://gitlab.test", run="") == ""
    assert url("http://outside", environment=("MLFLOW_TRACKING_URI=http://outside",)) == "http://outside"
    assert url("http://10.0.0.1", nautilus_url="http://nautilus") == "http://nautilus"
