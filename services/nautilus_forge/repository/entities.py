"""Commits, branches, tags, trees and diffs as GitLab shows them.

Source: gitlabhq lib/api/entities/{commit,commit_detail,branch,tag,tree_object,diff,compare}.rb.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from nautilus_forge.db.models import Project
from nautilus_forge.git.commits import Commit, Stats, with_milliseconds
from nautilus_forge.git.diffs import FileDiff
from nautilus_forge.git.refs import Ref
from nautilus_forge.git.trees import TreeEntry
from nautilus_forge.settings import Settings


def project_url(settings: Settings, project: Project) -> str:
    return f"{settings.external_url}/{project.path_with_namespace}"


def commit(settings: Settings, project: Project, shown: Commit) -> dict[str, Any]:
    trailers = dict(shown.trailers)
    extended: dict[str, list[str]] = {}
    for key, value in shown.trailers:
        extended.setdefault(key, []).append(value)
    return {
        "id": shown.sha,
        "short_id": shown.sha[:8],
        "created_at": shown.committed_date,
        "parent_ids": list(shown.parents),
        "title": shown.title,
        "message": shown.message,
        "author_name": shown.author_name,
        "author_email": shown.author_email,
        "authored_date": shown.authored_date,
        "committer_name": shown.committer_name,
        "committer_email": shown.committer_email,
        "committed_date": shown.committed_date,
        "trailers": trailers,
        "extended_trailers": extended,
        "web_url": f"{project_url(settings, project)}/-/commit/{shown.sha}",
    }


def stats(shown: Stats) -> dict[str, int]:
    return {"additions": shown.additions, "deletions": shown.deletions, "total": shown.total}


def commit_detail(
    settings: Settings,
    project: Project,
    shown: Commit,
    counted: Stats | None,
    last_pipeline: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """`counted` None: without `stats`. `status` is the last pipeline's."""
    detail = commit(settings, project, shown)
    if counted is not None:
        detail["stats"] = stats(counted)
    status = last_pipeline["status"] if last_pipeline else None
    return detail | {"status": status, "project_id": project.id, "last_pipeline": last_pipeline}


def branch(
    settings: Settings,
    project: Project,
    ref: Ref,
    *,
    is_merged: bool,
    is_protected: bool,
    developers_can_push: bool,
    can_push: bool,
) -> dict[str, Any]:
    return {
        "name": ref.name,
        "commit": commit(settings, project, ref.commit),
        "merged": is_merged,
        "protected": is_protected,
        "developers_can_push": developers_can_push,
        "developers_can_merge": developers_can_push,
        "can_push": can_push,
        "default": ref.name == project.default_branch,
        "web_url": f"{project_url(settings, project)}/-/tree/{quote(ref.name)}",
    }


def tag(settings: Settings, project: Project, ref: Ref, *, is_protected: bool) -> dict[str, Any]:
    return {
        "name": ref.name,
        "message": ref.message,
        "target": ref.target,
        "commit": commit(settings, project, ref.commit),
        "release": None,
        "protected": is_protected,
        "created_at": with_milliseconds(ref.tagged_at) if ref.tagged_at else None,
    }


def tree_entry(entry: TreeEntry) -> dict[str, Any]:
    path = entry.path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return {
        "id": entry.sha,
        "name": path.rpartition("/")[2],
        "type": entry.kind,
        "path": path,
        "mode": entry.mode,
    }


def diff(shown: FileDiff, *, unidiff: bool = False) -> dict[str, Any]:
    return {
        "diff": shown.header + shown.diff if unidiff else shown.diff,
        "collapsed": False,
        "too_large": shown.is_too_large,
        "new_path": shown.new_path,
        "old_path": shown.old_path,
        "a_mode": shown.a_mode,
        "b_mode": shown.b_mode,
        "new_file": shown.status == "A",
        "renamed_file": shown.status == "R",
        "deleted_file": shown.status == "D",
        "generated_file": None,
    }
