"""Values that have routes of their own: a hook's headers and variables, one protected tag, a resolved thread."""

from __future__ import annotations

from typing import Any

import gitlab
import pytest
from gitlab.exceptions import GitlabHttpError

URL = "http://93.184.215.14/{one}"


def set_change_and_remove(root: gitlab.Gitlab, hook: str) -> None:
    """One header and one URL variable of the hook at this path."""
    for kind, key in (("custom_headers", "X-Mine"), ("url_variables", "two")):
        path = f"{hook}/{kind}/{key}"
        root.http_put(path, post_data={"value": "1"})
        root.http_put(path, post_data={"value": "2"})
        assert key in [one["key"] for one in root.http_get(hook)[kind]]  # type: ignore[index]
        root.http_delete(path)
        assert key not in [one["key"] for one in root.http_get(hook)[kind]]  # type: ignore[index]
        with pytest.raises(GitlabHttpError) as gone:
            root.http_delete(path)
        assert gone.value.response_code == 404


def test_headers_and_variables_of_a_projects_hook(root: gitlab.Gitlab) -> None:
    project = root.projects.create({"name": "hooked"})
    hook = project.hooks.create({"url": URL, "url_variables": [{"key": "one", "value": "1"}]})
    set_change_and_remove(root, f"/projects/{project.id}/hooks/{hook.id}")


def test_headers_and_variables_of_a_hook_of_the_instance(root: gitlab.Gitlab) -> None:
    hook = root.hooks.create({"url": URL, "url_variables": [{"key": "one", "value": "1"}]})
    set_change_and_remove(root, f"/hooks/{hook.id}")
    hook.delete()


def test_one_protected_tag(root: gitlab.Gitlab) -> None:
    project = root.projects.create({"name": "tagged"})
    project.protectedtags.create({"name": "v*", "create_access_level": 40})
    shown = project.protectedtags.get("v*")
    assert shown.name == "v*"
    assert [level["access_level"] for level in shown.create_access_levels] == [40]


def test_a_runners_authentication_token_is_made_anew(root: gitlab.Gitlab) -> None:
    made: Any = root.http_post("/user/runners", post_data={"runner_type": "instance_type"})
    reset: Any = root.http_post(f"/runners/{made['id']}/reset_authentication_token")
    assert reset["token"].startswith("glrt-")
    with pytest.raises(GitlabHttpError) as old:
        root.http_post("/runners/verify", post_data={"token": made["token"]})
    assert old.value.response_code == 403
    root.http_post("/runners/verify", post_data={"token": reset["token"]})
    root.runners.get(made["id"]).delete()


def test_comments_of_a_thread_tell_where_they_stand_and_whether_it_is_resolved(root: gitlab.Gitlab) -> None:
    project = root.projects.create({"name": "threads", "initialize_with_readme": True})
    action = {"action": "create", "file_path": "a.txt", "content": "one\ntwo\n"}
    project.commits.create(
        {"branch": "b", "start_branch": "main", "commit_message": "b", "actions": [action]}
    )
    request = project.mergerequests.create({"source_branch": "b", "target_branch": "main", "title": "B"})
    refs = request.diff_refs
    position = {**refs, "position_type": "text", "new_path": "a.txt", "old_path": "a.txt", "new_line": 2}
    thread = request.discussions.create({"body": "Why two?", "position": position})
    (note,) = (one for one in request.notes.list(all=True) if one.body == "Why two?")
    assert note.position["new_line"] == 2
    assert (note.resolvable, note.resolved, note.resolved_by) == (True, False, None)
    thread.resolved = True
    thread.save()
    (note,) = (one for one in request.notes.list(all=True) if one.body == "Why two?")
    assert (note.resolved, note.resolved_by["username"]) == (True, "root")


def test_a_projects_token_may_be_a_planners(root: gitlab.Gitlab) -> None:
    project = root.projects.create({"name": "planned"})
    made = project.access_tokens.create({"name": "plan", "scopes": ["read_api"], "access_level": 15})
    assert made.access_level == 15
    assert [token.access_level for token in project.access_tokens.list()] == [15]
