"""Checkouts from mirrors: a copied repository is as good as a fetched one, and mirrors mend themselves."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from nautilus_runner.errors import GitError
from nautilus_runner.payload import GitInfo, Job
from nautilus_runner.sources import copying
from nautilus_runner.sources.checkout import Server, check_out
from nautilus_runner.sources.git import Remote
from nautilus_runner.sources.mirror import Mirrors
from nautilus_runner.testing.githost import Repository
from nautilus_runner.testing.payloads import job_payload
from nautilus_runner.testing.server import ProtocolServer


def git(folder: Path, *arguments: str) -> str:
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
    }
    done = subprocess.run(["git", *arguments], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(params=["copied", "fetched"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "fetched":
        monkeypatch.setattr(copying, "MAX_BYTES", -1)
    return str(request.param)


def info_of(server: ProtocolServer, sha: str, **changes: object) -> GitInfo:
    job = server.add_job(job_payload(url=server.url, sha=sha))
    job.status = "success"
    return Job.model_validate(job.payload).git_info.model_copy(update=changes)


def merged_history(repository: Repository) -> str:
    for number in range(4):
        repository.commit({"a": str(number)}, message=f"m{number}")
    work = repository._work
    repository.git("checkout", "-q", "-b", "side", "HEAD~2", cwd=work)
    repository.commit({"side": "1"}, message="s1", branch="side")
    repository.git("checkout", "-q", "main", cwd=work)
    repository.git("merge", "-q", "--no-ff", "-m", "merge", "side", cwd=work)
    sha = repository.commit({"end": "1"}, message="last")
    repository.point("refs/pipelines/7", sha)
    return sha


async def checkout(mirrors: Path, target: Path, info: GitInfo, server: ProtocolServer) -> Path:
    target.mkdir()
    await check_out(Mirrors(mirrors), info, target, Server(server.url))
    return target


@pytest.mark.parametrize("depth", [0, 1, 2, 3, 20])
async def test_history_depth_and_refs_are_what_git_itself_would_make(
    server: ProtocolServer, repository: Repository, tmp_path: Path, way: str, depth: int
) -> None:
    sha = merged_history(repository)
    info = info_of(server, sha, depth=depth)
    made = await checkout(tmp_path / "mirrors", tmp_path / "made", info, server)
    plain = tmp_path / "plain"
    plain.mkdir()
    git(plain, "init", "-q", ".")
    deep = [f"--depth={depth}"] if depth else []
    git(plain, "fetch", "-q", "--no-tags", *deep, f"file://{repository.folder}", *info.refspecs)
    assert git(made, "rev-list", "--parents", "HEAD") == git(plain, "rev-list", "--parents", sha)
    assert git(made, "show-ref") == git(plain, "show-ref")
    assert git(made, "rev-parse", "--is-shallow-repository") == git(
        plain, "rev-parse", "--is-shallow-repository"
    )
    git(made, "fsck", "--full", "--strict")
    assert git(made, "status", "--porcelain") == ""
    assert git(made, "rev-parse", "HEAD") == sha


async def test_the_copy_shares_no_file_with_the_mirror(
    server: ProtocolServer, repository: Repository, tmp_path: Path, way: str
) -> None:
    sha = merged_history(repository)
    made = await checkout(tmp_path / "mirrors", tmp_path / "made", info_of(server, sha), server)
    for path in made.rglob("*"):
        assert path.is_dir() or path.is_symlink() or path.stat().st_nlink == 1
    assert not (made / ".git/objects/info/alternates").exists()
    assert "glcbt" not in (made / ".git/config").read_text()


async def test_a_mirror_is_fetched_once_for_the_jobs_of_a_commit(
    server: ProtocolServer, repository: Repository, tmp_path: Path
) -> None:
    sha = merged_history(repository)
    info = info_of(server, sha)
    mirrors = Mirrors(tmp_path / "mirrors")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        await check_out(mirrors, info, tmp_path / name, Server(server.url))
    assert sum(path.endswith("git-upload-pack") for _, path in server.requests) <= 2
    again = len(server.requests)
    (tmp_path / "three").mkdir()
    await check_out(mirrors, info, tmp_path / "three", Server(server.url))
    assert len(server.requests) == again


async def test_a_mirror_is_removed_unless_a_job_uses_it_and_then_fetched_anew(
    server: ProtocolServer, repository: Repository, tmp_path: Path
) -> None:
    sha = merged_history(repository)
    info = info_of(server, sha)
    mirrors = Mirrors(tmp_path / "mirrors")

    async def look(name: str) -> None:
        (tmp_path / name).mkdir()
        await check_out(mirrors, info, tmp_path / name, Server(server.url))
        assert git(tmp_path / name, "rev-parse", "HEAD") == sha

    await look("one")
    [(path, is_used)] = mirrors.kept()
    remote = Remote(f"{server.url}/group/project.git")
    assert not is_used and mirrors.of(remote).path == path
    async with mirrors.of(remote).hold([remote], sha, tuple(info.refspecs), info.depth):  # fetches nothing
        assert list(mirrors.kept()) == [(path, True)]
        assert not mirrors.remove(path.name) and (path / "HEAD").exists()
    assert mirrors.remove(path.name)
    assert not list((tmp_path / "mirrors").glob(f"{path.name}*"))
    await look("two")
    assert path.exists()


async def test_a_shallow_mirror_is_deepened_when_a_job_needs_more(
    server: ProtocolServer, repository: Repository, tmp_path: Path, way: str
) -> None:
    sha = merged_history(repository)
    counts = {}
    for depth in (1, 3, 0, 2):
        info = info_of(server, sha, depth=depth)
        made = await checkout(tmp_path / "mirrors", tmp_path / f"made-{depth}", info, server)
        counts[depth] = len(git(made, "rev-list", "--first-parent", "HEAD").splitlines())
    assert counts == {1: 1, 3: 3, 0: 6, 2: 2}


async def test_a_broken_mirror_is_made_anew(
    server: ProtocolServer, repository: Repository, tmp_path: Path
) -> None:
    sha = merged_history(repository)
    await checkout(tmp_path / "mirrors", tmp_path / "first", info_of(server, sha), server)
    [mirror] = (tmp_path / "mirrors").glob("*.git")
    for path in [*mirror.rglob("*.pack"), *(mirror / "objects").glob("??/*")]:
        path.chmod(0o644)
        path.write_bytes(b"rubbish")
    sha = repository.commit({"more": "1"})
    repository.point("refs/pipelines/7", sha)
    made = await checkout(tmp_path / "mirrors", tmp_path / "second", info_of(server, sha), server)
    assert git(made, "rev-parse", "HEAD") == sha


async def test_locks_of_a_killed_git_are_in_nobodys_way(
    server: ProtocolServer, repository: Repository, tmp_path: Path
) -> None:
    sha = merged_history(repository)
    await checkout(tmp_path / "mirrors", tmp_path / "first", info_of(server, sha), server)
    [mirror] = (tmp_path / "mirrors").glob("*.git")
    for name in ("shallow.lock", "packed-refs.lock", "refs/pipelines/7.lock"):
        (mirror / name).parent.mkdir(parents=True, exist_ok=True)
        (mirror / name).touch()
    sha = repository.commit({"more": "1"})
    repository.point("refs/pipelines/7", sha)
    await checkout(tmp_path / "mirrors", tmp_path / "second", info_of(server, sha), server)


async def test_a_server_that_refuses_leaves_the_mirror_alone(
    server: ProtocolServer, repository: Repository, tmp_path: Path
) -> None:
    sha = merged_history(repository)
    await checkout(tmp_path / "mirrors", tmp_path / "first", info_of(server, sha), server)
    [mirror] = (tmp_path / "mirrors").glob("*.git")
    inode = mirror.stat().st_ino
    info = info_of(server, sha, repo_url=f"{server.url.replace('//', '//u:wrong@')}/group/project.git")
    with pytest.raises(GitError, match=r"(401|403|Authentication|Username)"):
        await checkout(tmp_path / "mirrors", tmp_path / "second", info, server)
    assert mirror.stat().st_ino == inode


async def test_tags_and_branches_come_where_the_server_names_them_all(
    server: ProtocolServer, repository: Repository, tmp_path: Path, way: str
) -> None:
    sha = merged_history(repository)
    repository.git("tag", "-a", "v1", "-m", "one", sha, cwd=repository._work)
    repository.git("push", "-q", str(repository.folder), "v1", cwd=repository._work)
    refspecs = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
    info = info_of(server, sha, depth=0, refspecs=refspecs)
    made = await checkout(tmp_path / "mirrors", tmp_path / "made", info, server)
    names = [line.split()[1] for line in git(made, "show-ref").splitlines()]
    assert names == ["refs/remotes/origin/main", "refs/remotes/origin/side", "refs/tags/v1"]
    assert git(made, "describe", "--tags") == "v1"


@pytest.mark.parametrize(
    ("clone_url", "has_containers", "origin"),
    [
        ("", True, "https://gitlab.example.com"),
        ("http://127.0.0.1:10080", True, "https://gitlab.example.com"),
        ("http://127.0.0.1:10080", False, "http://127.0.0.1:10080"),
        ("http://gitlab.inner", True, "http://gitlab.inner"),
        ("ssh://git@gitlab.inner", True, "https://gitlab.example.com"),
    ],
)
def test_a_job_s_repository_names_an_address_that_the_job_can_reach(
    clone_url: str, has_containers: bool, origin: str
) -> None:
    server = Server("http://127.0.0.1:10080", clone_url, has_containers=has_containers)
    named = server.public("https://gitlab-ci-token:secret@gitlab.example.com/group/project.git")
    assert named.url == f"{origin}/group/project.git"
