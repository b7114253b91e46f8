"""Git LFS in a job's checkout: contents in place, each object fetched once, nothing given away or executed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from nautilus_runner.errors import GitError, SourceRefused
from nautilus_runner.payload import Job
from nautilus_runner.sources import git, lfs
from nautilus_runner.sources.checkout import Server, check_out
from nautilus_runner.sources.lfs_store import LfsStore
from nautilus_runner.sources.mirror import Mirrors
from nautilus_runner.testing.githost import Repository
from nautilus_runner.testing.lfshost import pointer, put_object
from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.running import RunningAgent
from nautilus_runner.testing.server import ProtocolServer

ATTRIBUTES = {".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n"}
MODEL = bytes(range(256)) * 5000


class Lfs:
    """Checkouts of one project, with their LFS objects, by one runner."""

    def __init__(self, server: ProtocolServer, repository: Repository, folder: Path) -> None:
        self.server, self.repository, self.folder = server, repository, folder
        self.store = LfsStore(folder / "lfs")
        self.mirrors = Mirrors(folder / "mirrors")
        self.count = 0

    async def make(self, limit_mib: int = 100) -> tuple[Path, lfs.Placed]:
        sha = self.repository.git("rev-parse", "main", cwd=self.repository.folder)
        self.repository.point("refs/pipelines/7", sha)
        job = self.server.add_job(job_payload(url=self.server.url, sha=sha, project=self.repository.path))
        job.status = "success"
        info = Job.model_validate(job.payload).git_info
        self.count += 1
        target = self.folder / f"made-{self.count}"
        target.mkdir()
        reached = Server(self.server.url)
        await check_out(self.mirrors, info, target, reached)
        [remote] = reached.remotes(info.repo_url)
        public = reached.public(info.repo_url)
        return target, await lfs.place_objects(target, remote, public, self.store, limit_mib)

    def downloads(self) -> int:
        return sum("/gitlab-lfs/objects/" in path for _, path in self.server.requests)


@pytest.fixture
def checkouts(server: ProtocolServer, repository: Repository, tmp_path: Path) -> Lfs:
    return Lfs(server, repository, tmp_path)


async def test_pointers_become_what_they_stand_for_and_each_object_is_fetched_once(
    checkouts: Lfs, repository: Repository, repositories: Path
) -> None:
    oid = put_object(repositories, "group/project", MODEL)
    files = {"model.bin": pointer(MODEL), "deep/er/copy.bin": pointer(MODEL), "plain.txt": pointer(MODEL)}
    repository.commit({**ATTRIBUTES, **files, "not.bin": b"no pointer at all"})
    made, placed = await checkouts.make()
    assert (placed.files, placed.fetched) == (2, 1)
    assert (made / "model.bin").read_bytes() == (made / "deep/er/copy.bin").read_bytes() == MODEL
    assert (made / "plain.txt").read_bytes() == pointer(MODEL)
    assert (made / "not.bin").read_bytes() == b"no pointer at all"
    kept = checkouts.store.path(oid)
    assert kept.stat().st_nlink == 1 and kept.stat().st_mode & 0o777 == 0o400
    assert (checkouts.folder / "lfs").stat().st_mode & 0o777 == 0o700
    (made / "model.bin").write_bytes(b"changed by a job")
    again, placed = await checkouts.make()
    assert (again / "model.bin").read_bytes() == MODEL
    assert placed.fetched == 0 and checkouts.downloads() == 1


async def test_knowing_an_objects_hash_gives_a_job_nothing(
    checkouts: Lfs, repository: Repository, repositories: Path
) -> None:
    """The object is on this machine, for another project."""
    put_object(repositories, "group/project", MODEL)
    repository.commit({**ATTRIBUTES, "model.bin": pointer(MODEL)})
    await checkouts.make()
    thief = Lfs(checkouts.server, Repository(repositories, "evil/thief"), checkouts.folder / "thief")
    thief.folder.joinpath("x").mkdir(parents=True)
    thief.store = checkouts.store
    thief.repository.commit({**ATTRIBUTES, "model.bin": pointer(MODEL)})
    with pytest.raises(SourceRefused, match="Object does not exist on the server"):
        await thief.make()
    assert (thief.folder / "made-1/model.bin").read_bytes() == pointer(MODEL)


async def test_what_arrives_broken_is_never_kept(
    checkouts: Lfs, repository: Repository, repositories: Path
) -> None:
    oid = put_object(repositories, "group/project", MODEL)
    repository.commit({**ATTRIBUTES, "model.bin": pointer(MODEL)})
    (repositories / "lfs/group/project" / oid).write_bytes(b"x" * len(MODEL))
    with pytest.raises(GitError, match="broken"):
        await checkouts.make()
    (repositories / "lfs/group/project" / oid).write_bytes(MODEL + b"more")
    with pytest.raises(GitError, match=r"longer|broken"):
        await checkouts.make()
    assert not checkouts.store.path(oid).exists()
    (repositories / "lfs/group/project" / oid).write_bytes(MODEL)
    made, _ = await checkouts.make()
    assert (made / "model.bin").read_bytes() == MODEL


async def test_a_download_that_broke_off_goes_on_where_it_was(
    checkouts: Lfs, repository: Repository, repositories: Path
) -> None:
    oid = put_object(repositories, "group/project", MODEL)
    repository.commit({**ATTRIBUTES, "model.bin": pointer(MODEL)})
    part = checkouts.store.partial(oid)
    part.append(MODEL[:1000])
    ranges: list[str] = []
    original = lfs.LfsClient._receive

    async def receive(self: lfs.LfsClient, offer: lfs.Offer, part: object) -> None:
        ranges.append(str(part.size))  # type: ignore[attr-defined]
        await original(self, offer, part)  # type: ignore[arg-type]

    lfs.LfsClient._receive = receive  # type: ignore[method-assign]
    try:
        made, _ = await checkouts.make()
    finally:
        lfs.LfsClient._receive = original  # type: ignore[method-assign]
    assert (made / "model.bin").read_bytes() == MODEL and ranges == ["1000"]


async def test_the_store_has_a_bound_and_the_oldest_go_first(
    checkouts: Lfs, repository: Repository, repositories: Path
) -> None:
    contents = [bytes([n]) * (1 << 20) for n in range(3)]
    names = [put_object(repositories, "group/project", content) for content in contents]
    for number, content in enumerate(contents):
        repository.commit({**ATTRIBUTES, "model.bin": pointer(content)})
        await checkouts.make(limit_mib=2)
        os.utime(checkouts.store.path(names[number]), (number, number))
    await checkouts.make(limit_mib=2)
    assert [checkouts.store.path(name).exists() for name in names] == [False, True, True]


async def test_hostile_configuration_reaches_nothing_and_executes_nothing(
    checkouts: Lfs, repository: Repository, repositories: Path
) -> None:
    """`.lfsconfig` names another server and programs, attributes name filters, pointers name files."""
    canary = checkouts.folder / "canary"
    put_object(repositories, "group/project", MODEL)
    config = (
        f"[lfs]\n\turl = http://127.0.0.1:1/\n\tfetchexclude = skipped\n"
        f'[lfs "customtransfer.evil"]\n\tpath = touch {canary}\n'
        f"[core]\n\tfsmonitor = touch {canary}\n[include]\n\tpath = /etc/passwd\n"
    )
    repository.commit(
        {
            **ATTRIBUTES,
            ".lfsconfig": config,
            "sub/.gitattributes": "*.dat filter=evil\n[attr]lfs filter=evil\n",
            "sub/a.dat": "x",
            "model.bin": pointer(MODEL),
            "skipped/model.bin": pointer(MODEL),
            "link.bin": "-> /etc/hostname",
            "evil.bin": pointer(MODEL).replace(b"sha256:", b"sha256:../../"),
        }
    )
    before = Path("/etc/hostname").read_bytes()
    made, placed = await checkouts.make()
    assert placed.files == 1 and (made / "model.bin").read_bytes() == MODEL
    assert (made / "skipped/model.bin").read_bytes() == pointer(MODEL)
    assert not canary.exists() and Path("/etc/hostname").read_bytes() == before


async def test_repositories_without_lfs_cost_one_look(checkouts: Lfs, repository: Repository) -> None:
    repository.commit({"a.bin": pointer(MODEL), ".gitattributes": "* text=auto\n"})
    made, placed = await checkouts.make()
    assert placed == lfs.Placed() and not await lfs.has_lfs(made)
    assert not any("/info/lfs" in path for _, path in checkouts.server.requests)


async def test_a_job_has_its_objects_unless_it_says_otherwise(
    server: ProtocolServer, runner: RunningAgent, repository: Repository, repositories: Path
) -> None:
    put_object(repositories, "group/project", MODEL)
    sha = repository.commit({**ATTRIBUTES, "model.bin": pointer(MODEL)})
    repository.point("refs/pipelines/7", sha)
    script = ["sha256sum model.bin", "wc -c < model.bin", "git status --short"]
    job = server.add_job(job_payload(script, url=server.url, sha=sha))
    await runner.start(server.url)
    await server.finished(job)
    assert f"{hashlib.sha256(MODEL).hexdigest()}  model.bin" in job.log
    assert "model.bin" not in job.log.split("git status --short")[1]
    assert "Git LFS: 1 files, 1.2 MiB; 1 objects were not on this machine yet" in job.log
    skipping = [variable("GIT_LFS_SKIP_SMUDGE", "1")]
    job = server.add_job(job_payload(script, url=server.url, sha=sha, variables=skipping))
    await server.finished(job)
    assert f"\n{len(pointer(MODEL))}\n" in job.log


async def test_a_missing_object_is_the_projects_own_error(
    server: ProtocolServer, runner: RunningAgent, repository: Repository
) -> None:
    sha = repository.commit({**ATTRIBUTES, "model.bin": pointer(MODEL)})
    repository.point("refs/pipelines/7", sha)
    job = server.add_job(job_payload(["echo never"], url=server.url, sha=sha))
    await runner.start(server.url)
    await server.finished(job)
    assert job.finals[-1]["failure_reason"] == "script_failure"
    assert "Object does not exist on the server" in job.log


def test_only_names_of_objects_are_paths(tmp_path: Path) -> None:
    store = LfsStore(tmp_path / "lfs")
    for name in ("../" * 10 + "etc", "a" * 63, "A" * 64, "", "a" * 65):
        with pytest.raises(GitError):
            store.path(name)
    assert git.remote_of("http://h/x.git").url == "http://h/x.git"
