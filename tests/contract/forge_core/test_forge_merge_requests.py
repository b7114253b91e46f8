"""Merge requests, as a client of GitLab's API uses them.

Source: gitlabhq spec/requests/api/merge_requests_spec.rb, doc/api/merge_requests.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gitlab
import pytest
from gitlab.v4.objects import Project, ProjectMergeRequest


@pytest.fixture
def project(root: gitlab.Gitlab) -> Any:
    made = root.projects.create({"name": "vision", "initialize_with_readme": True, "visibility": "private"})
    return root.projects.get(made.id)


def commit(project: Project, branch: str, path: str, content: str, start: str | None = "main") -> str:
    made = project.commits.create(
        {
            "branch": branch,
            "commit_message": f"Write {path}",
            "actions": [{"action": "create", "file_path": path, "content": content}],
            **({"start_branch": start} if start and start != branch else {}),
        }
    )
    sha: str = made.id
    return sha


def ask(project: Project, branch: str = "feature", title: str = "A feature", **more: object) -> Any:
    return project.mergerequests.create(
        {"source_branch": branch, "target_branch": "main", "title": title, **more}
    )


def test_one_is_made_read_and_merged(project: Project) -> None:
    head = commit(project, "feature", "model.py", "x = 1\n")
    made = ask(project, description="Adds a model.", labels="ml,model", remove_source_branch=True)
    assert (made.iid, made.state, made.sha, made.draft) == (1, "opened", head, False)
    read = project.mergerequests.get(1)
    assert read.detailed_merge_status == "mergeable"
    assert read.merge_status == "can_be_merged"
    assert read.labels == ["ml", "model"]
    assert read.changes_count == "1"
    assert read.diff_refs["head_sha"] == head
    assert [c.id for c in read.commits()] == [head]
    merged = read.merge()
    assert merged["state"] == "merged"
    main = project.branches.get("main")
    assert main.commit["id"] == merged["merge_commit_sha"]
    assert main.commit["message"] == (
        "Merge branch 'feature' into 'main'\n\nA feature\n\nSee merge request root/vision!1"
    )
    with pytest.raises(gitlab.GitlabGetError):
        project.branches.get("feature")


CI = """
build:
  script: [make]
check:
  script: [make check]
  rules:
    - if: $CI_PIPELINE_SOURCE == "merge_request_event"
      changes: [model.py]
"""


def test_it_gets_a_pipeline_of_its_own(project: Project) -> None:
    commit(project, "main", ".gitlab-ci.yml", CI)
    head = commit(project, "feature", "model.py", "x = 1\n")
    made = ask(project)
    pipelines = made.pipelines.list()
    assert [(p.source, p.ref, p.sha) for p in pipelines] == [
        ("merge_request_event", "refs/merge-requests/1/head", head),
        ("push", "feature", head),
    ]
    jobs = project.pipelines.get(pipelines[0].id).jobs.list()
    assert [job.name for job in jobs] == ["check"]
    assert made.head_pipeline["id"] == pipelines[0].id
    newer = commit(project, "feature", "other.py", "y = 1\n", start=None)
    pipelines = made.pipelines.list()
    assert [(p.source, p.sha) for p in pipelines[:2]] == [
        ("merge_request_event", newer),
        ("merge_request_event", head),
    ]
    again = made.pipelines.create({})
    assert (again.sha, again.source) == (newer, "merge_request_event")
