"""What a job may push with its token. Source: doc/ci/jobs/ci_job_token.md ("Allow Git push requests")."""

from __future__ import annotations

from typing import Any

from nautilus_forge.testing.git_server import GitServer
from nautilus_forge.testing.runner import register
from nautilus_forge.testing.server import REGISTRATION_TOKEN


def test_a_job_pushes_only_where_the_project_lets_it_and_makes_no_pipeline(
    server: GitServer, project: Any
) -> None:
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
    folder = f"pushed-{project.id}"
    server.must(
        "clone", "-q", server.remote(project.path_with_namespace, job.token, "gitlab-ci-token"), folder
    )
    server.must("checkout", "-q", "-b", "by-job", at=folder)
    server.must("commit", "-q", "--allow-empty", "-m", "from the job", at=folder)
    refused = server.git("push", "origin", "by-job", at=folder)
    assert refused.returncode != 0 and "403" in refused.stderr
    project.ci_push_repository_for_job_token_allowed = True
    project.save()
    known = len(project.pipelines.list(all=True))
    server.must("push", "-q", "origin", "by-job", at=folder)
    assert "by-job" in [branch.name for branch in project.branches.list(all=True)]
    assert len(project.pipelines.list(all=True)) == known
    job.finish()
