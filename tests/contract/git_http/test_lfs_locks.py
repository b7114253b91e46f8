"""File locks: the API, git-lfs's own commands, and what a push is held to.

Sources: git-lfs docs/api/locking.md; gitlabhq spec/requests/lfs_locks_api_spec.rb, spec/lib/gitlab/checks.
"""

from __future__ import annotations

from typing import Any

import gitlab
import pytest

from nautilus_forge.testing.elsewhere import elsewhere
from nautilus_forge.testing.git_server import GitServer, LfsClient

REPORTER, DEVELOPER, MAINTAINER = 20, 30, 40

ours_alone = pytest.mark.skipif(
    elsewhere() is not None, reason="GitLab does otherwise: docs/reference/lfs.md, Differences"
)


def locked(lfs: LfsClient, path: str) -> dict[str, Any]:
    answer = lfs.call("POST", "info/lfs/locks", {"path": path})
    assert answer.status_code == 201, answer.text
    lock: dict[str, Any] = answer.json()["lock"]
    return lock


def test_a_lock_is_made_listed_and_undone(lfs: LfsClient) -> None:
    lock = locked(lfs, "weights.bin")
    assert set(lock) == {"id", "path", "locked_at", "owner"}
    assert lock["path"] == "weights.bin"
    assert lock["owner"] == {"name": "Administrator"}
    assert lock["locked_at"].endswith("Z")
    assert lfs.call("GET", "info/lfs/locks").json() == {"locks": [lock]}
    undone = lfs.call("POST", f"info/lfs/locks/{lock['id']}/unlock", {})
    assert (undone.status_code, undone.json()) == (200, {"lock": lock})
    assert lfs.call("GET", "info/lfs/locks").json() == {"locks": []}
    assert lfs.call("POST", f"info/lfs/locks/{lock['id']}/unlock", {}).status_code == 404


def test_a_file_is_locked_once(lfs: LfsClient, project: Any, person: Any) -> None:
    lock = locked(lfs, "a.bin")
    _, token = person(project, DEVELOPER)
    again = LfsClient(lfs.base, ("oauth2", token)).call("POST", "info/lfs/locks", {"path": "a.bin"})
    assert again.status_code == 409
    assert again.json()["lock"] == lock
    assert again.json()["message"] == "already locked"


@ours_alone
def test_locks_come_in_pages_and_by_path_and_id(lfs: LfsClient) -> None:
    made = [locked(lfs, f"{number}.bin") for number in range(3)]
    first = lfs.call("GET", "info/lfs/locks?limit=2").json()
    assert first["locks"] == made[:2]
    rest = lfs.call("GET", f"info/lfs/locks?limit=2&cursor={first['next_cursor']}").json()
    assert rest == {"locks": made[2:]}
    assert lfs.call("GET", "info/lfs/locks?path=1.bin").json() == {"locks": [made[1]]}
    assert lfs.call("GET", f"info/lfs/locks?id={made[2]['id']}").json() == {"locks": [made[2]]}
    assert lfs.call("GET", "info/lfs/locks?cursor=x").status_code == 422


@ours_alone
def test_mine_and_theirs(lfs: LfsClient, project: Any, person: Any) -> None:
    _, token = person(project, DEVELOPER)
    ann = LfsClient(lfs.base, ("oauth2", token))
    mine, theirs = locked(ann, "mine.bin"), locked(lfs, "theirs.bin")
    found = ann.call("POST", "info/lfs/locks/verify", {})
    assert found.json() == {"ours": [mine], "theirs": [theirs]}
    paged = ann.call("POST", "info/lfs/locks/verify", {"limit": 1}).json()
    assert (paged["ours"], paged["theirs"], paged["next_cursor"]) == ([mine], [], mine["id"])


def test_who_may_unlock(lfs: LfsClient, project: Any, person: Any) -> None:
    owner, his = person(project, DEVELOPER)
    lock = locked(LfsClient(lfs.base, ("oauth2", his)), "x.bin")
    unlock = f"info/lfs/locks/{lock['id']}/unlock"
    _, other = person(project, DEVELOPER)
    other_dev = LfsClient(lfs.base, ("oauth2", other))
    plain = other_dev.call("POST", unlock, {})
    assert (plain.status_code, plain.json()["message"]) == (
        403,
        f"x.bin is locked by GitLab User {owner.id}",
    )
    forced = other_dev.call("POST", unlock, {"force": True})
    assert forced.status_code == 403
    assert forced.json()["message"] == "You must have maintainer access to force delete a lock"
    _, keeper = person(project, MAINTAINER)
    maintainer = LfsClient(lfs.base, ("oauth2", keeper))
    assert maintainer.call("POST", unlock, {}).status_code == 403, "not without force"
    assert maintainer.call("POST", unlock, {"force": True}).status_code == 200


def test_readers_look_but_do_not_lock(lfs: LfsClient, project: Any, person: Any) -> None:
    lock = locked(lfs, "x.bin")
    _, token = person(project, REPORTER)
    reporter = LfsClient(lfs.base, ("oauth2", token))
    assert reporter.call("GET", "info/lfs/locks").json() == {"locks": [lock]}
    assert reporter.call("POST", "info/lfs/locks", {"path": "y"}).status_code == 403
    assert reporter.call("POST", "info/lfs/locks/verify", {}).status_code == 403
    assert reporter.call("POST", f"info/lfs/locks/{lock['id']}/unlock", {}).status_code == 403
    _, stranger = person()
    assert LfsClient(lfs.base, ("oauth2", stranger)).call("GET", "info/lfs/locks").status_code == 404
    assert LfsClient(lfs.base, None).call("POST", "info/lfs/locks", {"path": "y"}).status_code == 401


@ours_alone
def test_paths_that_no_file_can_have(lfs: LfsClient) -> None:
    for path in (None, "", "  ", 5, "x" * 512, "nul\0"):
        assert lfs.call("POST", "info/lfs/locks", {"path": path}).status_code == 422, path


def test_git_lfs_locks_and_a_push_of_somebody_else_is_refused(
    server: GitServer, project: Any, person: Any
) -> None:
    one = server.clone(project.path_with_namespace)
    server.commit(one, **{"plan.txt": b"first", "free.txt": b"first"})
    server.must("push", "-q", "origin", "main", at=one)
    done = server.git("lfs", "lock", "plan.txt", at=one)
    assert done.returncode == 0, done.stdout + done.stderr
    _, token = person(project, MAINTAINER)
    two = server.clone(project.path_with_namespace, token)
    server.commit(two, **{"free.txt": b"second"})
    allowed = server.git("push", "--no-verify", "-q", "origin", "main", at=two)
    assert allowed.returncode == 0, allowed.stderr
    server.commit(two, **{"plan.txt": b"second"})
    refused = server.git("push", "--no-verify", "origin", "main:other", at=two)
    assert refused.returncode != 0
    assert "GitLab: The path 'plan.txt' is locked in Git LFS by Administrator" in refused.stderr
    warned = server.git("push", "origin", "main:other", at=two)
    assert "plan.txt" in warned.stderr, "git-lfs itself asks before it pushes"
    server.must("pull", "-q", "--rebase", "origin", "main", at=one)
    server.commit(one, **{"plan.txt": b"mine"})
    mine = server.git("push", "-q", "origin", "main", at=one)
    assert mine.returncode == 0, mine.stderr
    assert server.git("lfs", "unlock", "plan.txt", at=one).returncode == 0
    assert server.git("push", "--no-verify", "-q", "origin", "main:other", at=two).returncode == 0


def test_a_merge_of_a_locked_file_that_somebody_else_pushed_is_no_change(
    server: GitServer, project: Any, person: Any
) -> None:
    one = server.clone(project.path_with_namespace)
    _, token = person(project, DEVELOPER)
    two = server.clone(project.path_with_namespace, token)
    server.must("lfs", "lock", "plan.txt", at=one)
    server.commit(one, **{"plan.txt": b"the owner's"})
    server.must("push", "-q", "--no-verify", "origin", "main", at=one)
    server.must("switch", "-q", "-c", "work", at=two)
    server.commit(two, **{"other.txt": b"x"})
    server.must("pull", "-q", "--no-rebase", "origin", "main", at=two)
    merged = server.git("push", "--no-verify", "origin", "work", at=two)
    assert merged.returncode == 0, merged.stderr


def test_a_locked_file_is_not_changed_by_the_api_either(
    server: GitServer, project: Any, lfs: LfsClient, person: Any
) -> None:
    locked(lfs, "README.md")
    _, token = person(project, MAINTAINER)
    his = gitlab.Gitlab(server.url, private_token=token).projects.get(project.id)
    change = {"branch": "work", "start_branch": "main", "content": "x", "commit_message": "x"}
    with pytest.raises(gitlab.GitlabError) as refused:
        his.files.update("README.md", change)
    assert refused.value.response_code == 400
    assert "The path 'README.md' is locked in Git LFS by Administrator" in str(refused.value)
    project.files.update("README.md", change)
