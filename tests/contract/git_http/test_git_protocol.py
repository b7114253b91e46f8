"""Git over HTTP as its users know it: partial and shallow clones, refs of the forge's own, what a push may do.

Sources: gitlabhq spec/requests/git_http_spec.rb, spec/lib/gitlab/checks/{branch,tag}_check_spec.rb,
gitaly internal/git/gitcmd (settings).
"""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gitlab
import pytest

from nautilus_forge.testing.git_server import GitServer

DEVELOPER, MAINTAINER = 30, 40
CI_FILE = b"job:\n  script: [date]\n"


def test_a_partial_clone_fetches_blobs_when_they_are_needed(server: GitServer, project: Any) -> None:
    one = server.clone(project.path_with_namespace)
    server.commit(one, **{"large.bin": os.urandom(300_000)})
    server.commit(one, **{"large.bin": b"small now"})
    server.must("push", "-q", "origin", "main", at=one)
    server.must(
        "clone", "-q", "--filter=blob:none", server.remote(project.path_with_namespace), f"{one}-part"
    )
    missing = server.must("rev-list", "--all", "--objects", "--missing=print", at=f"{one}-part")
    assert [line for line in missing.splitlines() if line.startswith("?")], "not all blobs came"
    earlier = server.must("rev-parse", "HEAD~1", at=f"{one}-part")
    server.must("checkout", "-q", earlier, at=f"{one}-part")
    assert (server.work / f"{one}-part" / "large.bin").stat().st_size == 300_000


@pytest.mark.parametrize("version", ["0", "2"])
def test_a_shallow_clone_and_its_deepening(server: GitServer, project: Any, version: str) -> None:
    one = server.clone(project.path_with_namespace)
    for number in range(3):
        server.commit(one, **{"file": str(number).encode()})
    server.must("push", "-q", "origin", "main", at=one)
    remote, folder = server.remote(project.path_with_namespace), f"{one}-shallow"
    protocol = ("-c", f"protocol.version={version}")
    server.must(*protocol, "clone", "-q", "--depth=1", remote, folder)
    assert server.must("rev-list", "--count", "HEAD", at=folder) == "1"
    server.must(*protocol, "fetch", "-q", "--deepen=1", at=folder)
    assert server.must("rev-list", "--count", "HEAD", at=folder) == "2"
    server.must(*protocol, "fetch", "-q", "--unshallow", at=folder)
    assert server.must("rev-list", "--count", "HEAD", at=folder) == "4"


def test_any_commit_can_be_fetched_by_its_name(server: GitServer, project: Any) -> None:
    one = server.clone(project.path_with_namespace)
    dropped = server.commit(one, file=b"dropped")
    server.must("push", "-q", "origin", "main:work", at=one)
    server.must("push", "-q", "origin", ":work", at=one)
    two = server.clone(project.path_with_namespace)
    server.must("fetch", "-q", "origin", dropped, at=two)
    assert server.must("cat-file", "-t", dropped, at=two) == "commit"


def test_refs_of_the_forge_are_read_and_never_pushed(server: GitServer, project: Any) -> None:
    one = server.clone(project.path_with_namespace)
    sha = server.commit(one, **{".gitlab-ci.yml": CI_FILE})
    server.must("push", "-q", "origin", "main", at=one)
    [pipeline] = project.pipelines.list(get_all=True)
    ref = f"refs/pipelines/{pipeline.id}"
    assert f"{sha}\t{ref}" in server.must("ls-remote", "origin", at=one).splitlines()
    server.must("fetch", "-q", "origin", ref, at=one)
    for name in (
        ref,
        "refs/pipelines/99999",
        "refs/merge-requests/1/head",
        "refs/keep-around/x",
        "refs/tmp/x",
    ):
        pushed = server.git("push", "--force", "origin", f"HEAD:{name}", at=one)
        assert pushed.returncode != 0, name
        assert "deny updating a hidden ref" in pushed.stderr, name
    other = server.git("push", "origin", "HEAD:refs/elsewhere/x", at=one)
    assert "GitLab: You can only push to branches and tags, not to refs/elsewhere/x." in other.stderr


def test_notes_are_pushed_and_make_no_pipeline(server: GitServer, project: Any) -> None:
    one = server.clone(project.path_with_namespace)
    server.must("notes", "add", "-m", "seen", at=one)
    server.must("push", "-q", "origin", "refs/notes/commits", at=one)
    assert "refs/notes/commits" in server.must("ls-remote", "origin", at=one)
    assert project.pipelines.list(get_all=True) == []


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("refs/heads/" + "a" * 40, "You cannot create a branch with a 40-character hexadecimal branch name."),
        ("refs/tags/main", "You cannot use default branch name to create a tag"),
        ("refs/tags/" + "b" * 40, "You cannot create a tag with a SHA-1 or SHA-256 tag name."),
    ],
)
def test_names_that_would_be_mistaken(server: GitServer, project: Any, target: str, words: str) -> None:
    one = server.clone(project.path_with_namespace)
    pushed = server.git("push", "origin", f"HEAD:{target}", at=one)
    assert pushed.returncode != 0
    assert f"GitLab: {words}" in pushed.stderr


def test_protected_branches(server: GitServer, project: Any, person: Any) -> None:
    project.protectedbranches.create({"name": "release-*"})
    _, token = person(project, DEVELOPER)
    one = server.clone(project.path_with_namespace, token)
    sha = server.commit(one, file=b"x")
    refused = {
        f"{sha}:main": "You are not allowed to push code to protected branches on this project.",
        f"{sha}:release-1": "You are not allowed to create protected branches on this project.",
    }
    for refspec, words in refused.items():
        pushed = server.git(
            "push", "origin", f"{refspec.partition(':')[0]}:refs/heads/{refspec[41:]}", at=one
        )
        assert pushed.returncode != 0
        assert f"GitLab: {words}" in pushed.stderr
    two = server.clone(project.path_with_namespace)
    server.must("push", "-q", "origin", "HEAD:release-1", at=two)
    deleted = server.git("push", "origin", ":release-1", at=one)
    assert "GitLab: You are not allowed to delete protected branches from this project." in deleted.stderr
    by_keeper = server.git("push", "origin", ":release-1", at=two)
    assert "GitLab: You can only delete protected branches using the web interface." in by_keeper.stderr


def test_protected_tags(server: GitServer, project: Any, person: Any) -> None:
    project.protectedtags.create({"name": "v*", "create_access_level": MAINTAINER})
    _, token = person(project, DEVELOPER)
    one, two = server.clone(project.path_with_namespace, token), server.clone(project.path_with_namespace)
    server.must("push", "-q", "origin", "HEAD:refs/tags/x1", at=one)
    made = server.git("push", "origin", "HEAD:refs/tags/v1", at=one)
    assert "GitLab: You are not allowed to create this tag as it is protected." in made.stderr
    server.must("push", "-q", "origin", "HEAD:refs/tags/v1", at=two)
    server.commit(two, file=b"x")
    moved = server.git("push", "--force", "origin", "HEAD:refs/tags/v1", at=two)
    assert "GitLab: Protected tags cannot be updated." in moved.stderr
    gone = server.git("push", "origin", ":refs/tags/v1", at=one)
    assert "GitLab: You are not allowed to delete protected tags from this project." in gone.stderr
    by_keeper = server.git("push", "origin", ":refs/tags/v1", at=two)
    assert "GitLab: You can only delete protected tags using the web interface." in by_keeper.stderr


def test_the_first_push_is_a_maintainer_s(server: GitServer, root: gitlab.Gitlab, person: Any) -> None:
    project = root.projects.create({"name": "fresh"})
    _, token = person(project, DEVELOPER)
    one = server.clone(project.path_with_namespace, token)
    server.must("switch", "-q", "-c", "main", at=one) if server.git(
        "symbolic-ref", "--short", "HEAD", at=one
    ).stdout.strip() != "main" else None
    server.commit(one, file=b"x")
    refused = server.git("push", "origin", "HEAD:main", at=one)
    assert "A default branch (e.g. main) does not yet exist for root/fresh" in refused.stderr
    assert f"{server.url}/root/fresh/-/project_members" in refused.stderr
    server.must("push", "-q", server.remote("root/fresh"), "HEAD:main", at=one)
    project.delete()


def raw_object(server: GitServer, at: str, kind: str, content: bytes) -> str:
    """An object as no git would write it."""
    done = subprocess.run(
        ["git", "hash-object", "-t", kind, "-w", "--literally", "--stdin"],
        cwd=server.work / at,
        env={**server.environment},
        input=content,
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().strip()


def commit_of_tree(server: GitServer, at: str, tree: str) -> str:
    return server.must("commit-tree", tree, "-p", "HEAD", "-m", "by hand", at=at)


def test_objects_that_would_harm_a_checkout_are_refused(server: GitServer, project: Any) -> None:
    one = server.clone(project.path_with_namespace)
    blob = bytes.fromhex(server.must("rev-parse", "HEAD:README.md", at=one))
    evil = raw_object(server, one, "tree", b"100644 .git\0" + blob)
    pushed = server.git("push", "origin", f"{commit_of_tree(server, one, evil)}:refs/heads/evil", at=one)
    assert pushed.returncode != 0
    assert "hasDotgit" in pushed.stderr
    assert [branch.name for branch in project.branches.list(get_all=True)] == ["main"]
    subtree = bytes.fromhex(server.must("rev-parse", "HEAD^{tree}", at=one))
    padded = raw_object(server, one, "tree", b"040000 folder\0" + subtree)
    old = commit_of_tree(server, one, padded)
    server.must("push", "-q", "origin", f"{old}:refs/heads/old-history", at=one)


def test_a_pack_above_the_limit_is_refused(server: GitServer, project: Any, root: gitlab.Gitlab) -> None:
    one = server.clone(project.path_with_namespace)
    server.commit(one, **{"large.bin": os.urandom(2 << 20)})
    settings = root.settings.get()
    settings.receive_max_input_size = 1
    settings.save()
    try:
        refused = server.git("push", "origin", "main", at=one)
    finally:
        settings.receive_max_input_size = 0
        settings.save()
    assert refused.returncode != 0
    assert "pack exceeds maximum allowed size" in refused.stderr
    server.must("push", "-q", "origin", "main", at=one)


def test_of_pushes_to_one_branch_at_once_each_that_succeeds_has_its_pipeline(
    server: GitServer, project: Any
) -> None:
    one = server.clone(project.path_with_namespace)
    server.commit(one, **{".gitlab-ci.yml": CI_FILE})
    server.must("push", "-q", "-o", "ci.skip", "origin", "HEAD:work", at=one)
    clones = [server.clone(project.path_with_namespace) for _ in range(4)]
    for number, clone in enumerate(clones):
        server.must("switch", "-q", "work", at=clone)
        server.commit(clone, file=str(number).encode())

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda clone: server.git("push", "origin", "work", at=clone), clones))
    winners = [clone for clone, done in zip(clones, results, strict=True) if done.returncode == 0]
    assert len(winners) == 1, [done.stderr for done in results]
    sha = server.must("rev-parse", "HEAD", at=winners[0])
    assert project.branches.get("work").commit["id"] == sha
    assert [one.sha for one in project.pipelines.list(ref="work", get_all=True)][:1] == [sha]
    assert len(project.pipelines.list(ref="work", sha=sha, get_all=True)) == 1


def test_a_push_of_very_many_tags(server: GitServer, project: Any) -> None:
    one = server.clone(project.path_with_namespace)
    sha = server.must("rev-parse", "HEAD", at=one)
    packed = server.work / one / ".git" / "packed-refs"
    lines = [f"{sha} refs/tags/t{number:04}" for number in range(500)]
    packed.write_text("# pack-refs with: peeled fully-peeled sorted \n" + "\n".join(sorted(lines)) + "\n")
    pushed = server.git("push", "-q", "--no-verify", "--tags", "origin", at=one)
    assert pushed.returncode == 0, pushed.stderr
    assert len(server.must("ls-remote", "--tags", "origin", at=one).splitlines()) == 500
