"""Git LFS for those who are no users (jobs, deploy tokens), and between a project and its forks.

Source: gitlabhq spec/requests/lfs_http_spec.rb ("when build is authorized", "when using Deploy Tokens",
"in source of fork project"), spec/services/merge_requests/link_lfs_objects_service_spec.rb.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import gitlab

from nautilus_forge.testing.git_server import NOWHERE, GitServer, LfsClient, oid_of, stored
from nautilus_forge.testing.runner import register
from nautilus_forge.testing.server import REGISTRATION_TOKEN

DEVELOPER = 30


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, f"{what}: not within 60 s"
        time.sleep(0.05)


def test_a_job_reads_its_project_s_objects_while_it_runs(
    server: GitServer, project: Any, lfs: LfsClient, root: gitlab.Gitlab
) -> None:
    oid = stored(lfs, b"for the job")
    project.files.create(
        {
            "file_path": ".gitlab-ci.yml",
            "branch": "main",
            "content": "train:\n  script: [train]\n",
            "commit_message": "CI",
        }
    )
    job = register(server.url, REGISTRATION_TOKEN).take_one()
    job.patch(b"begun\n")
    his = LfsClient(lfs.base, ("gitlab-ci-token", job.token))
    [one] = his.batch("download", (oid, 11)).json()["objects"]
    assert "download" in one["actions"]
    assert his.get(oid).content == b"for the job"
    assert his.batch("upload", (NOWHERE, 5)).status_code == 403
    other = root.projects.create({"name": "not-its-own"})
    assert LfsClient(other.http_url_to_repo, his.auth).get(oid).status_code == 404
    other.delete()
    project.ci_push_repository_for_job_token_allowed = True
    project.save()
    assert his.put(b"by the job").status_code == 200
    job.finish()
    assert his.get(oid).status_code == 401


def test_deploy_tokens(project: Any, lfs: LfsClient, root: gitlab.Gitlab) -> None:
    oid = stored(lfs, b"deployed")
    token = project.deploytokens.create({"name": "reader", "scopes": ["read_repository"]})
    his = LfsClient(lfs.base, (token.username, token.token))
    [one] = his.batch("download", (oid, 8)).json()["objects"]
    assert one["actions"]["download"]["header"]["Authorization"].startswith("Basic ")
    assert "expires_in" not in one["actions"]["download"], "it is the client's own header"
    assert his.get(oid).content == b"deployed"
    assert his.batch("upload", (NOWHERE, 5)).status_code == 403
    other = root.projects.create({"name": "unrelated"})
    assert LfsClient(other.http_url_to_repo, his.auth).get(oid).status_code == 401
    other.delete()
    images = project.deploytokens.create({"name": "images", "scopes": ["read_registry"]})
    assert LfsClient(lfs.base, (images.username, images.token)).get(oid).status_code == 401


def forked(project: Any, client: gitlab.Gitlab, path: str) -> Any:
    made = client.projects.get(project.id).forks.create({"path": path, "name": path})
    until(lambda: client.projects.get(made.id).import_status == "finished", "the fork is filled")
    return client.projects.get(made.id)


def test_a_fork_has_what_its_source_has(server: GitServer, project: Any, lfs: LfsClient, person: Any) -> None:
    oid = stored(lfs, b"inherited")
    user, token = person(project, DEVELOPER)
    ann = gitlab.Gitlab(server.url, private_token=token)
    fork = forked(project, ann, f"{project.path}-fork")
    theirs = LfsClient(fork.http_url_to_repo, ("oauth2", token))
    assert theirs.get(oid).content == b"inherited"
    later = stored(lfs, b"later in the source")
    assert theirs.get(later).status_code == 404
    [one] = theirs.batch("upload", (later, 19)).json()["objects"]
    assert "actions" not in one, "who may read the source need not upload what is there"
    assert theirs.get(later).content == b"later in the source"
    project.members.delete(user.id)
    hidden = stored(lfs, b"after he left")
    [asked] = theirs.batch("upload", (hidden, 13)).json()["objects"]
    assert "upload" in asked["actions"]
    assert theirs.get(oid).content == b"inherited", "what the fork has it keeps"
    fork.delete()


def test_a_merge_request_brings_its_objects_along(
    server: GitServer, project: Any, lfs: LfsClient, person: Any
) -> None:
    _, token = person(project, DEVELOPER)
    ann = gitlab.Gitlab(server.url, private_token=token)
    fork = forked(project, ann, f"{project.path}-work")
    clone = server.clone(fork.path_with_namespace, token)
    server.must("lfs", "track", "*.bin", at=clone)
    content = os.urandom(1000)
    server.commit(clone, **{"new.bin": content})
    server.must("push", "-q", "origin", "HEAD:work", at=clone)
    assert lfs.get(oid_of(content)).status_code == 404
    fork.mergerequests.create(
        {
            "source_branch": "work",
            "target_branch": "main",
            "title": "Weights",
            "target_project_id": project.id,
        }
    )
    until(lambda: lfs.get(oid_of(content)).status_code == 200, "the target has the object")
    assert lfs.get(oid_of(content)).content == content
    fork.delete()
