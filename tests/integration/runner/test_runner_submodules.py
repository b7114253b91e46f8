"""Submodules: what a job finds, and what a hostile `.gitmodules` does not get."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nautilus_runner.errors import GitError, SourceRefused
from nautilus_runner.payload import GitInfo, Job
from nautilus_runner.sources import git as git_program
from nautilus_runner.sources.checkout import Server, check_out
from nautilus_runner.sources.gitmodules import Whereabouts, absolute, is_plain
from nautilus_runner.sources.mirror import Mirrors
from nautilus_runner.sources.options import SubmoduleOptions
from nautilus_runner.sources.submodules import Made, make_submodules
from nautilus_runner.testing.githost import Repository
from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.running import RunningAgent
from nautilus_runner.testing.server import ProtocolServer

ALL = SubmoduleOptions(is_wanted=True, is_recursive=True)
_QUIET = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, env=_QUIET, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def gitmodules(**modules: str | dict[str, str]) -> str:
    """`path="url"`, or more fields."""
    lines = []
    for name, fields in modules.items():
        entries = {"path": name, **({"url": fields} if isinstance(fields, str) else fields)}
        lines += [f'[submodule "{name}"]', *(f"\t{key} = {value}" for key, value in entries.items())]
    return "\n".join(lines) + "\n"


@pytest.fixture
def library(repositories: Path) -> Repository:
    return Repository(repositories, "group/library")


class Checkout:
    """A checkout of `repository` with its submodules, as a job of its project gets it."""

    def __init__(self, server: ProtocolServer, repository: Repository, folder: Path) -> None:
        self.server, self.repository, self.folder = server, repository, folder
        self.mirrors = Mirrors(folder / "mirrors")
        self.count = 0

    async def make(
        self, options: SubmoduleOptions = ALL, *, depth: int = 20, **more: object
    ) -> tuple[Path, list[Made]]:
        sha = self.repository.git("rev-parse", "main", cwd=self.repository.folder)
        self.repository.point("refs/pipelines/7", sha)
        job = self.server.add_job(job_payload(url=self.server.url, sha=sha, depth=depth))
        job.status = "success"
        info: GitInfo = Job.model_validate(job.payload).git_info
        self.count += 1
        target = self.folder / f"made-{self.count}"
        target.mkdir()
        reached = Server(self.server.url, **more)  # type: ignore[arg-type]
        await check_out(self.mirrors, info, target, reached)
        hosts = ("gitlab.example.com",)
        places = Whereabouts(reached, info.repo_url, options.forces_https, hosts)
        return target, await make_submodules(self.mirrors, places, options, info, target)


@pytest.fixture
def checkout(server: ProtocolServer, repository: Repository, tmp_path: Path) -> Checkout:
    return Checkout(server, repository, tmp_path)


@pytest.fixture
def with_submodule(repository: Repository) -> Callable[..., None]:
    def make(sha: str, path: str = "library", **modules: str | dict[str, str]) -> None:
        repository.link(path, sha)
        repository.commit({".gitmodules": gitmodules(**modules or {path: "../library.git"})})

    return make


async def test_a_relative_submodule_is_what_git_itself_would_make(
    checkout: Checkout, library: Repository, with_submodule: Callable[..., None]
) -> None:
    sha = library.commit({"code.py": "print(1)\n"})
    library.commit({"code.py": "print(2)\n"})
    with_submodule(sha)
    made, [submodule] = await checkout.make()
    assert (submodule.path, submodule.sha) == ("library", sha)
    assert (made / "library/code.py").read_text() == "print(1)\n"
    assert git(made, "submodule", "status").split()[:2] == [sha, "library"]
    assert git(made, "status", "--porcelain") == ""
    assert git(made / "library", "status", "--porcelain") == ""
    git(made / "library", "fsck", "--full", "--strict")
    assert (made / "library/.git").is_file() and (made / ".git/modules/library/HEAD").is_file()
    for config in ("config", "modules/library/config"):
        assert "glcbt" not in (made / ".git" / config).read_text()


async def test_nested_ones_come_only_where_they_are_asked_for(
    checkout: Checkout, library: Repository, with_submodule: Callable[..., None], repositories: Path
) -> None:
    deep = Repository(repositories, "deep")
    deep_sha = deep.commit({"deep.txt": "deep\n"})
    library.link("vendor/deep", deep_sha)
    sha = library.commit({".gitmodules": gitmodules(**{"vendor/deep": "../../deep"})})
    with_submodule(sha)
    made, found = await checkout.make()
    assert [one.path for one in found] == ["library", "library/vendor/deep"]
    assert (made / "library/vendor/deep/deep.txt").read_text() == "deep\n"
    assert git(made, "submodule", "status", "--recursive").count("\n") == 1
    made, found = await checkout.make(SubmoduleOptions(is_wanted=True))
    assert [one.path for one in found] == ["library"]
    assert not (made / "library/vendor/deep/deep.txt").exists()


async def test_paths_choose_and_exclude(
    checkout: Checkout, library: Repository, repository: Repository
) -> None:
    sha = library.commit({"a": "1"})
    for path in ("one", "two", "three"):
        repository.link(path, sha)
    repository.commit({".gitmodules": gitmodules(one="../library", two="../library", three="../library")})
    for paths, wanted in [(("one", "two"), ["one", "two"]), ((":(exclude)two",), ["one", "three"])]:
        _, found = await checkout.make(SubmoduleOptions(is_wanted=True, paths=paths))
        assert sorted(one.path for one in found) == wanted


async def test_depth_and_branch_are_minded(
    checkout: Checkout, library: Repository, with_submodule: Callable[..., None]
) -> None:
    for number in range(3):
        sha = library.commit({"n": str(number)})
    tip = library.commit({"n": "tip"}, branch="main")
    with_submodule(sha)
    made, _ = await checkout.make(SubmoduleOptions(is_wanted=True, depth=1))
    assert git(made / "library", "rev-list", "--count", "HEAD") == "1"
    made, _ = await checkout.make(SubmoduleOptions(is_wanted=True))
    assert git(made / "library", "rev-list", "--count", "HEAD") == "3"
    assert git(made / "library", "rev-parse", "origin/main") == tip
    made, [submodule] = await checkout.make(SubmoduleOptions(is_wanted=True, follows_branch=True))
    assert submodule.sha == tip and git(made / "library", "rev-parse", "HEAD") == tip


async def test_the_token_reads_what_it_may_and_the_mirror_gives_nothing_away(
    checkout: Checkout, server: ProtocolServer, library: Repository, with_submodule: Callable[..., None]
) -> None:
    with_submodule(library.commit({"secret": "1"}))
    await checkout.make()
    server.closed_projects.add("group/library")
    with pytest.raises(GitError, match=r"submodule library: .*not found"):
        await checkout.make()
    assert not (checkout.folder / "made-2/library/secret").exists()


async def test_ssh_addresses_of_the_server_become_https_where_that_is_asked_for(
    checkout: Checkout, library: Repository, with_submodule: Callable[..., None]
) -> None:
    sha = library.commit({"a": "1"})
    forced = SubmoduleOptions(is_wanted=True, forces_https=True)
    for url in (
        "git@gitlab.example.com:group/library.git",
        "ssh://git@gitlab.example.com:2222/group/library.git",
    ):
        with_submodule(sha, library=url)
        made, _ = await checkout.make(forced)
        assert (made / "library/a").exists()
        with pytest.raises(SourceRefused, match="ssh_key_file"):
            await checkout.make()


HOSTILE = [
    "ext::sh -c touch% CANARY",
    "file:///etc",
    "/etc",
    "-u./payload",
    "--upload-pack=touch CANARY",
    "fd::17",
    "git://127.0.0.1/x",
    "../../../../../../../../etc",
    "http://127.0.0.1:1/x.git",
    "http://localhost:1/x.git",
    "http://[::1]:1/x.git",
    "http://169.254.169.254/latest/meta-data",
    "http://[::ffff:10.0.0.1]/x.git",
    "http://0x7f000001/x.git",
    "ssh://-oProxyCommand=touch CANARY/x",
    "git@-oProxyCommand=x:y",
    "ssh://git@host/-oProxyCommand",
    "http://u@127.0.0.1:1@evil/x",
]


@pytest.mark.parametrize("url", HOSTILE)
async def test_a_hostile_address_is_no_way_to_fetch_from(url: str) -> None:
    own = "http://gitlab-ci-token:glcbt-x@gitlab.example.com/group/project.git"
    places = Whereabouts(Server("http://gitlab.example.com"), own)
    with pytest.raises((SourceRefused, GitError)):
        await places.remotes(absolute(url, "http://gitlab.example.com/group/project.git"))


async def test_only_the_server_itself_gets_the_jobs_token() -> None:
    own = "http://gitlab-ci-token:glcbt-x@gitlab.example.com/group/project.git"
    reached = Server("http://10.0.0.5:8080", named_hosts=("git.inner", "git.other:8443"))
    places = Whereabouts(reached, own)
    for url, is_ours in [
        ("http://gitlab.example.com/group/b.git", True),
        ("http://somebody:else@gitlab.example.com:80/group/b", True),
        ("http://10.0.0.5:8080/group/b.git", True),
        ("https://git.inner/group/b.git", False),
        ("https://git.other:8443/group/b.git", False),
    ]:
        remotes, public, found = await places.remotes(url)
        assert found is is_ours
        assert [bool(remote.authorization) for remote in remotes] == [is_ours] * len(remotes)
        assert "@" not in public.url
    for url in ("https://gitlab.example.com/b.git", "http://gitlab.example.com:81/b.git"):
        with pytest.raises(GitError):  # another port is another server, and this one has no address
            await places.remotes(url)


@pytest.mark.parametrize("url", ["ext::sh -c touch% CANARY", "--upload-pack=touch CANARY", "file:///etc"])
async def test_a_hostile_address_executes_nothing_and_reaches_nothing(
    checkout: Checkout, library: Repository, with_submodule: Callable[..., None], url: str
) -> None:
    canary = checkout.folder / "canary"
    with_submodule(library.commit({"a": "1"}), library=f'"{url.replace("CANARY", str(canary))}"')
    with pytest.raises(SourceRefused, match="submodule"):
        await checkout.make()
    assert not canary.exists()


@pytest.mark.parametrize(
    "text", ["..", "a/../../hooks", ".git", "a/.GIT/hooks", "/absolute", "-c", "a//b", "", "a\nb", ".git."]
)
def test_names_and_paths_that_lead_out_are_not_plain(text: str) -> None:
    assert not is_plain(text)


async def test_names_never_lead_out(checkout: Checkout, library: Repository, repository: Repository) -> None:
    repository.link("library", library.commit({"a": "1"}))
    text = '[submodule "../../../escape"]\n\tpath = library\n\turl = ../library\n'
    repository.commit({".gitmodules": text})
    with pytest.raises(SourceRefused, match="name"):
        await checkout.make()
    assert list(checkout.folder.rglob("escape*")) == []


async def test_one_repository_never_lies_in_another(
    checkout: Checkout, library: Repository, repository: Repository
) -> None:
    sha = library.commit({"a": "1"})
    repository.link("one", sha)
    repository.link("two", sha)
    text = "".join(
        f'[submodule "{name}"]\n\tpath = {path}\n\turl = ../library\n'
        for name, path in (("x", "one"), ("x/hooks", "two"))
    )
    repository.commit({".gitmodules": text})
    with pytest.raises(SourceRefused, match="lie in each other"):
        await checkout.make()


async def test_what_submodules_say_of_programs_is_not_heeded(
    checkout: Checkout, library: Repository, repository: Repository
) -> None:
    """`update = !command`, an included file, hooks and filters of the submodule's own."""
    canary = checkout.folder / "canary"
    sha = library.commit(
        {
            ".gitattributes": "* filter=evil diff=evil merge=evil\n",
            "hooks/post-checkout": f"#!/bin/sh\ntouch {canary}\n",
            "a": "1",
        }
    )
    repository.link("library", sha)
    fields = {"url": "../library", "update": f"!touch {canary}"}
    (checkout.folder / "evil").write_text(f"[core]\n\tfsmonitor = touch {canary}\n")
    text = gitmodules(library=fields) + f"[include]\n\tpath = {checkout.folder}/evil\n"
    repository.commit({".gitmodules": text})
    made, _ = await checkout.make()
    assert (made / "library/a").exists() and not canary.exists()


async def test_a_linked_gitmodules_is_not_followed(
    checkout: Checkout, library: Repository, repository: Repository
) -> None:
    outside = checkout.folder / "outside"
    outside.write_text(gitmodules(library="../library"))
    sha = library.commit({"a": "1"})
    repository.commit({"b": "1"})
    target = repository.folder / "target"
    target.write_text(str(outside))
    link = repository.git("hash-object", "-w", "target", cwd=repository.folder)
    listing = f"120000 blob {link}\t.gitmodules\n160000 commit {sha}\tlibrary\n"
    done = subprocess.run(
        ["git", "mktree", "--missing"], cwd=repository.folder, input=listing, capture_output=True, text=True
    )
    made = repository.git("commit-tree", "-m", "linked", done.stdout.strip(), cwd=repository.folder)
    repository.point("refs/heads/main", made)
    try:
        _, found = await checkout.make()
    except GitError as refused:  # git itself makes no such link
        assert "gitmodules" in str(refused)
    else:
        assert found == []


def test_relative_addresses_are_resolved_as_git_does() -> None:
    base = "http://gitlab/group/sub/project.git"
    assert absolute("../other.git", base) == "http://gitlab/group/sub/other.git"
    assert absolute("../../x/y", base) == "http://gitlab/group/x/y"
    assert absolute("./inner", base) == "http://gitlab/group/sub/project.git/inner"
    assert absolute("../b.git", "git@host:group/a.git") == "git@host:group/b.git"
    assert absolute("../b.git", "git@host:a.git") == "git@host:b.git"
    assert absolute("https://elsewhere/x.git", base) == "https://elsewhere/x.git"
    for url in ("../../../../evil", "../a/../../b", ".././../../../x"):
        with pytest.raises(SourceRefused):
            absolute(url, base)


async def test_a_job_gets_its_submodules_and_reads_of_them_in_the_log(
    server: ProtocolServer,
    runner: RunningAgent,
    repository: Repository,
    library: Repository,
    with_submodule: Callable[..., None],
) -> None:
    library_sha = library.commit({"code.txt": "of the library\n"})
    with_submodule(library_sha)
    sha = repository.git("rev-parse", "main", cwd=repository.folder)
    repository.point("refs/pipelines/7", sha)
    artifact = {"untracked": True, "when": "always", "artifact_type": "archive", "artifact_format": "zip"}
    script = [
        "cat library/code.txt",
        "git submodule foreach --quiet 'git rev-parse HEAD'",
        "touch new library/new",
    ]
    payload = job_payload(
        script,
        url=server.url,
        sha=sha,
        variables=[variable("GIT_SUBMODULE_STRATEGY", "recursive"), variable("GIT_SUBMODULE_DEPTH", "1")],
        artifacts=[artifact],
    )
    job = server.add_job(payload)
    await runner.start(server.url)
    await server.finished(job)
    assert job.status == "success", job.log
    assert "Updating/initializing submodules recursively with git depth set to 1..." in job.log
    assert f"Submodule path 'library': checked out '{library_sha}'\n" in job.log
    assert "\nof the library\n" in job.log and f"\n{library_sha}\n" in job.log
    assert "untracked: found 1 files" in job.log


async def test_a_refused_submodule_is_the_projects_own_error(
    server: ProtocolServer, runner: RunningAgent, repository: Repository, with_submodule: Callable[..., None]
) -> None:
    with_submodule("1" * 40, library="file:///etc")
    sha = repository.git("rev-parse", "main", cwd=repository.folder)
    repository.point("refs/pipelines/7", sha)
    wanted = [variable("GIT_SUBMODULE_STRATEGY", "normal"), variable("GET_SOURCES_ATTEMPTS", "3")]
    job = server.add_job(job_payload(["echo never"], url=server.url, sha=sha, variables=wanted))
    await runner.start(server.url)
    await server.finished(job)
    assert job.finals[-1]["failure_reason"] == "script_failure"
    assert "submodule library: the submodule address 'file:///etc' is not fetched" in job.log


async def test_a_public_address_is_the_one_that_git_connects_to(
    server: ProtocolServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the name leads to later (DNS rebinding) does not count; a git that can't be held to it is not used."""
    places = Whereabouts(
        Server("http://gitlab.example.com"), "http://t:x@gitlab.example.com/group/project.git"
    )
    [remote], _, is_ours = await places.remotes("http://93.184.216.34/x.git")
    assert (remote.resolve, is_ours) == ("93.184.216.34:80:93.184.216.34", False)
    bound = git_program.Remote(f"http://nowhere.invalid:{server.port}/group/library.git").pinned_to(
        f"nowhere.invalid:{server.port}:127.0.0.1"
    )
    with pytest.raises(GitError, match="Username"):  # it got there, and has no token for that name
        await git_program.run(
            ["git", "ls-remote", "--", bound.url],
            cwd=Path("/"),
            env=git_program.environment(Path("/"), bound),
        )
    assert any(path.startswith("/group/library.git/info/refs") for _, path in server.requests)

    async def old() -> tuple[int, ...]:
        return (2, 30)

    monkeypatch.setattr(git_program, "version", old)
    with pytest.raises(SourceRefused, match=r"install git 2\.37"):
        await places.remotes("http://93.184.216.34/x.git")
