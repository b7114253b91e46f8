"""LFS objects behind the API: whole or absent whatever happens, shared, and deleted with the last project."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gitlab
import psycopg
import pytest
import requests

from nautilus_forge.errors import InsufficientStorage
from nautilus_forge.following import WORTHWHILE
from nautilus_forge.lfs import collection, objects
from nautilus_forge.lfs.store import LfsStore
from nautilus_forge.testing.git_server import LfsClient, oid_of
from nautilus_forge.testing.server import ADMIN_TOKEN, RunningForge, running_forge
from nautilus_forge.testing.stored import files_below


@pytest.fixture(scope="module")
def forge(module_forge_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningForge]:
    with running_forge(module_forge_database_url, tmp_path_factory.mktemp("lfs")) as running:
        yield running


@pytest.fixture
def root(forge: RunningForge) -> gitlab.Gitlab:
    return gitlab.Gitlab(forge.url, private_token=ADMIN_TOKEN, keep_base_url=True)


@pytest.fixture
def make(forge: RunningForge, root: gitlab.Gitlab) -> Iterator[Callable[[str], tuple[Any, LfsClient]]]:
    """A project and its LFS API; all of them are deleted afterwards."""
    made = []

    def project(name: str) -> tuple[Any, LfsClient]:
        one = root.projects.create({"name": name})
        made.append(one)
        return one, LfsClient(f"{forge.url}/{one.path_with_namespace}.git", ("oauth2", ADMIN_TOKEN))

    yield project
    for one in made:
        try:
            one.delete()
        except gitlab.GitlabError as error:
            assert error.response_code == 404


def files(forge: RunningForge) -> set[str]:
    return {path.name for path in files_below(forge.settings.data_dir / "lfs-objects")}


def rows(forge: RunningForge, query: str) -> list[Any]:
    conninfo = forge.settings.database_url.get_secret_value().replace("+psycopg", "")
    with psycopg.connect(conninfo) as db:
        return [row[0] for row in db.execute(query)]


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, f"{what}: not within 60 s"
        time.sleep(0.02)


def named(content: bytes) -> str:
    return oid_of(content)[4:]


def has_file(forge: RunningForge, content: bytes) -> bool:
    return any(name.startswith(named(content)) for name in files(forge))


def test_an_object_is_stored_once_and_goes_with_its_last_project(forge: RunningForge, make: Any) -> None:
    (one, first), (two, second) = make("first"), make("second")
    for lfs in (first, second):
        assert lfs.put(b"shared").status_code == 200
    assert first.put(b"alone").status_code == 200
    assert len([name for name in files(forge) if name.startswith(named(b"shared"))]) == 1
    one.delete()
    until(lambda: not has_file(forge, b"alone"), "the file of nobody's object is gone")
    assert has_file(forge, b"shared")
    assert second.get(oid_of(b"shared")).content == b"shared"
    two.delete()
    until(lambda: not has_file(forge, b"shared"), "the file is gone")
    until(lambda: rows(forge, "select path from lfs_loose_files") == [], "nothing is noted any more")
    assert rows(forge, "select oid from lfs_objects") == []


def test_a_disk_that_fills_in_the_middle_leaves_nothing(
    forge: RunningForge, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise InsufficientStorage("No space left for LFS objects")

    _, lfs = make("full")
    monkeypatch.setattr(LfsStore, "take", full)
    refused = lfs.put(b"too much")
    assert refused.status_code == 507
    assert refused.json() == {"message": "No space left for LFS objects"}
    monkeypatch.undo()
    assert not has_file(forge, b"too much")
    assert rows(forge, "select path from lfs_loose_files") == []
    assert list(forge.settings.tmp_dir.glob("upload-*")) == []
    assert lfs.put(b"too much").status_code == 200, "it recovers unaided"


@pytest.mark.parametrize("where", ["_own", "_link"])
def test_a_failure_before_the_row_leaves_no_file(
    forge: RunningForge, make: Any, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    async def broken(*_: object) -> bool:
        raise RuntimeError("killed here")

    _, lfs = make("broken")
    monkeypatch.setattr(objects, where, broken)
    assert lfs.put(b"half way").status_code == 500
    monkeypatch.undo()
    assert not has_file(forge, b"half way")
    assert lfs.get(oid_of(b"half way")).status_code == 404


def test_what_a_crash_left_is_collected(forge: RunningForge) -> None:
    """As a kill after the file was put in place and before its row: the file is noted, and named by no object."""
    relative = f"lfs-objects/ab/cd/{'0' * 60}-12345678"
    path = forge.settings.data_dir / relative
    path.parent.mkdir(parents=True)
    path.write_bytes(b"orphan")
    conninfo = forge.settings.database_url.get_secret_value().replace("+psycopg", "")
    with psycopg.connect(conninfo) as db:
        db.execute("insert into lfs_loose_files (path) values (%s)", [relative])
    asyncio.run_coroutine_threadsafe(collection.collect(forge.forge), forge.loop).result(30)
    assert not path.exists()
    assert rows(forge, "select path from lfs_loose_files") == []


def test_an_upload_that_is_under_way_is_no_orphan(forge: RunningForge) -> None:
    forge.forge.lfs.under_way.add("lfs-objects/ab/cd/x")
    conninfo = forge.settings.database_url.get_secret_value().replace("+psycopg", "")
    with psycopg.connect(conninfo) as db:
        db.execute("insert into lfs_loose_files (path) values ('lfs-objects/ab/cd/x')")
    asyncio.run_coroutine_threadsafe(collection.collect(forge.forge), forge.loop).result(30)
    assert rows(forge, "select path from lfs_loose_files") == ["lfs-objects/ab/cd/x"]
    forge.forge.lfs.under_way.clear()
    asyncio.run_coroutine_threadsafe(collection.collect(forge.forge), forge.loop).result(30)
    assert rows(forge, "select path from lfs_loose_files") == []


def test_a_damaged_file_is_replaced_by_the_next_upload(forge: RunningForge, make: Any) -> None:
    _, lfs = make("damaged")
    assert lfs.put(b"precious").status_code == 200
    [path] = rows(forge, f"select path from lfs_objects where oid = '{oid_of(b'precious')}'")
    file = forge.settings.data_dir / path
    file.unlink()
    assert lfs.get(oid_of(b"precious")).status_code == 404
    assert lfs.put(b"precious").status_code == 200
    assert lfs.get(oid_of(b"precious")).content == b"precious"


def test_uploads_and_deletions_at_once_never_lose_an_object(
    forge: RunningForge, make: Any, root: gitlab.Gitlab
) -> None:
    """One project keeps the object while others with the same one come and go."""
    from concurrent.futures import ThreadPoolExecutor

    content = os.urandom(1000)
    _, keeper = make("keeper")

    def come_and_go(number: int) -> int:
        other = root.projects.create({"name": f"guest-{number}"})
        guest = LfsClient(f"{forge.url}/{other.path_with_namespace}.git", keeper.auth)
        status = guest.put(content).status_code
        other.delete()
        return status

    with ThreadPoolExecutor(4) as pool:
        kept = pool.submit(keeper.put, content)
        assert set(pool.map(come_and_go, range(8))) == {200}
        assert kept.result().status_code == 200
    asyncio.run_coroutine_threadsafe(collection.collect(forge.forge), forge.loop).result(30)
    assert keeper.get(oid_of(content)).content == content
    assert len([name for name in files(forge) if name.startswith(named(content))]) == 1


@pytest.mark.parametrize("is_right", [True, False])
def test_a_body_that_was_hashed_while_it_came_in(forge: RunningForge, make: Any, is_right: bool) -> None:
    """As the gateway does it: it asks, writes, and names the file. The bytes count, whenever they were hashed."""
    _, lfs = make(f"followed {is_right}")
    content = random.Random(5).randbytes(WORTHWHILE) + b"the second half"
    told = content if is_right else content[:-1] + b"!"
    folder, following = forge.settings.spooled("lfs"), forge.forge.lfs.following
    assert folder is not None
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{int(is_right):010d}"
    path.write_bytes(content[:WORTHWHILE])
    url = f"{lfs.base}/gitlab-lfs/objects/{oid_of(told)}/{len(content)}"
    asked = {"X-Original-Method": "PUT", "X-Original-URI": url.removeprefix(forge.url)}

    def is_followed() -> bool:
        question = f"{forge.url}/internal/upload/authorize"
        assert requests.get(question, auth=lfs.auth, headers=asked, timeout=30).status_code == 200
        return any(one.work.offset == WORTHWHILE for one in list(following._files.values()))

    until(is_followed, "the first half is hashed")
    with path.open("ab") as file:
        file.write(content[WORTHWHILE:])
    answer = requests.put(url, auth=lfs.auth, headers={"X-Nautilus-Body-File": str(path)}, timeout=30)
    path.unlink()
    assert answer.status_code == (200 if is_right else 400)
    assert has_file(forge, content) == is_right
    assert following._files == {}


def test_a_spooled_body_must_be_the_gateway_s(forge: RunningForge, make: Any, tmp_path: Path) -> None:
    _, lfs = make("spooled")
    spool = forge.settings.spool_dir
    assert spool is not None
    spool.mkdir(exist_ok=True)
    inside, outside = spool / "0000001", tmp_path / "elsewhere"
    for file in (inside, outside):
        file.write_bytes(b"spooled")
    oid = hashlib.sha256(b"spooled").hexdigest()
    url = f"{lfs.base}/gitlab-lfs/objects/{oid}/7"

    def put(file: str) -> int:
        return requests.put(
            url, auth=lfs.auth, headers={"X-Nautilus-Body-File": file}, timeout=30
        ).status_code

    assert put(str(outside)) == 403
    assert put(f"{spool}/../elsewhere") == 403
    assert put("relative") == 403
    assert put(f"{spool}/gone") == 400
    assert put(str(inside)) == 200
    assert lfs.get(oid).content == b"spooled"
