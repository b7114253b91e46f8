"""Webhooks of projects and of the instance, and the feed of events, as python-gitlab sees them.

Source: gitlabhq spec/requests/api/{project_hooks,system_hooks,events}_spec.rb,
spec/support/shared_examples/requests/api/hooks_shared_examples.rb.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gitlab
import pytest
from gitlab.exceptions import (
    GitlabCreateError,
    GitlabError,
    GitlabGetError,
    GitlabHttpError,
    GitlabUpdateError,
)

Client = Callable[..., gitlab.Gitlab]
PUBLIC = "http://93.184.215.14/hook"
"""An address of the internet that needs no look-up; nothing is ever sent there."""


@pytest.fixture
def project(root: gitlab.Gitlab) -> Any:
    return root.projects.create({"name": "Hooked", "initialize_with_readme": True})


def test_a_hook_without_flags_hears_of_pushes_alone(project: Any) -> None:
    hook = project.hooks.create({"url": PUBLIC})
    assert hook.push_events is True
    flags = {name for name, value in hook.attributes.items() if name.endswith("_events") and value}
    assert flags == {"push_events"}
    assert hook.project_id == project.id
    assert hook.enable_ssl_verification is True
    assert hook.alert_status == "executable"
    assert hook.disabled_until is None
    assert hook.branch_filter_strategy == "wildcard"


def test_hooks_are_listed_changed_and_removed(project: Any) -> None:
    first = project.hooks.create({"url": PUBLIC, "name": "first", "description": "of two"})
    second = project.hooks.create({"url": PUBLIC + "2", "push_events": False, "job_events": True})
    page = project.hooks.list(per_page=1, page=2, get_all=False)
    assert [hook.id for hook in page] == [second.id]

    second.pipeline_events = True
    second.push_events_branch_filter = "release-*"
    second.save()
    again = project.hooks.get(second.id)
    assert (again.push_events, again.job_events, again.pipeline_events) == (False, True, True)
    assert again.push_events_branch_filter == "release-*"

    first.delete()
    assert [hook.id for hook in project.hooks.list()] == [second.id]
    with pytest.raises(GitlabGetError) as gone:
        project.hooks.get(first.id)
    assert gone.value.response_code == 404


def test_a_hooks_secrets_are_never_shown(project: Any) -> None:
    hook = project.hooks.create(
        {
            "url": "http://93.184.215.14/{key}",
            "token": "very secret",
            "url_variables": [{"key": "key", "value": "in-the-path"}],
            "custom_headers": [{"key": "X-Custom", "value": "in a header"}],
        }
    )
    for shown in (hook, project.hooks.get(hook.id), project.hooks.list()[0]):
        assert shown.url == "http://93.184.215.14/{key}"
        assert shown.url_variables == [{"key": "key"}]
        assert shown.custom_headers == [{"key": "X-Custom"}]
        text = str(shown.attributes)
        assert not any(secret in text for secret in ("very secret", "in-the-path", "in a header"))


def test_url_variables_and_headers_are_set_one_by_one(root: gitlab.Gitlab, project: Any) -> None:
    hook = project.hooks.create(
        {"url": "http://93.184.215.14/{one}", "url_variables": [{"key": "one", "value": "1"}]}
    )
    path = f"/projects/{project.id}/hooks/{hook.id}"
    root.http_put(f"{path}/url_variables/two", post_data={"value": "2"})
    root.http_put(f"{path}/custom_headers/X-Mine", post_data={"value": "mine"})
    shown = project.hooks.get(hook.id)
    assert [one["key"] for one in shown.url_variables] == ["one", "two"]
    assert shown.custom_headers == [{"key": "X-Mine"}]

    root.http_delete(f"{path}/url_variables/two")
    with pytest.raises(GitlabHttpError) as needed:
        root.http_delete(f"{path}/url_variables/one")
    assert needed.value.response_code == 422
    with pytest.raises(GitlabHttpError) as unknown:
        root.http_delete(f"{path}/custom_headers/X-None")
    assert unknown.value.response_code == 404
    with pytest.raises(GitlabHttpError) as illegal:
        root.http_put(f"{path}/url_variables/no-", post_data={"value": "x"})
    assert illegal.value.response_code == 422


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": "ftp://93.184.215.14"}, "Invalid url given"),
        ({"url": "http://127.1.2.3/hook"}, "Invalid url given"),
        ({"url": "http://169.254.169.254/latest"}, "Invalid url given"),
        ({"url": "http://93.184.215.14/{nowhere}"}, "Invalid url given"),
        ({"url": PUBLIC, "push_events_branch_filter": "~bad-branch"}, "Invalid branch filter given"),
        (
            {"url": PUBLIC, "push_events_branch_filter": "(", "branch_filter_strategy": "regex"},
            "Invalid branch filter given",
        ),
        (
            {"url": PUBLIC, "custom_headers": [{"key": "no:", "value": "x"}]},
            "Custom headers validation failed",
        ),
    ],
)
def test_what_no_hook_may_have(project: Any, given: dict[str, Any], said: str) -> None:
    with pytest.raises(GitlabCreateError) as refused:
        project.hooks.create(given)
    assert refused.value.response_code == 422
    assert said in str(refused.value.error_message)
    hook = project.hooks.create({"url": PUBLIC})
    with pytest.raises(GitlabUpdateError) as unchanged:
        project.hooks.update(hook.id, given)
    assert unchanged.value.response_code == 422
    assert project.hooks.get(hook.id).url == PUBLIC


def test_only_who_looks_after_a_project_sees_its_hooks(project: Any, client_of: Client) -> None:
    project.hooks.create({"url": PUBLIC})
    dora = client_of("dora")
    assert dora.user is not None
    project.members.create({"user_id": dora.user.id, "access_level": 30})
    with pytest.raises(GitlabError) as refused:
        dora.projects.get(project.id).hooks.list()
    assert refused.value.response_code == 403
    with pytest.raises(GitlabHttpError) as unseen:
        client_of("stranger").http_list(f"/projects/{project.id}/hooks")
    assert unseen.value.response_code == 404


def test_a_hook_is_tested_with_what_there_is(root: gitlab.Gitlab, project: Any) -> None:
    hook = project.hooks.create({"url": PUBLIC})
    for trigger, said in (("job_events", "CI jobs"), ("merge_requests_events", "merge requests")):
        with pytest.raises(GitlabHttpError) as refused:
            root.http_post(f"/projects/{project.id}/hooks/{hook.id}/test/{trigger}")
        assert refused.value.response_code == 422
        assert said in str(refused.value.error_message)
    with pytest.raises(GitlabHttpError) as unknown:
        root.http_post(f"/projects/{project.id}/hooks/{hook.id}/test/nothing")
    assert unknown.value.response_code == 400


def test_group_hooks_are_not_in_this_edition(root: gitlab.Gitlab) -> None:
    group = root.groups.create({"name": "Team", "path": "team"})
    with pytest.raises(GitlabHttpError) as missing:
        root.http_list(f"/groups/{group.id}/hooks")
    assert missing.value.response_code == 404


def test_administrators_have_hooks_of_the_instance(root: gitlab.Gitlab, client_of: Client) -> None:
    hook = root.hooks.create({"url": PUBLIC, "token": "secret", "push_events": True})
    try:
        assert hook.repository_update_events is True
        assert hook.push_events is True
        assert "secret" not in str(hook.attributes)
        assert [one.id for one in root.hooks.list()] == [hook.id]
        root.http_put(f"/hooks/{hook.id}", post_data={"tag_push_events": True})
        assert root.hooks.get(hook.id).tag_push_events is True
        with pytest.raises(GitlabError) as refused:
            client_of("ordinary").hooks.list()
        assert refused.value.response_code == 403
    finally:
        hook.delete()
    with pytest.raises(GitlabGetError):
        root.hooks.get(hook.id)


def _list(client: gitlab.Gitlab, path: str, **query: Any) -> list[dict[str, Any]]:
    found: Any = client.http_list(path, **query)
    return list(found)


def _names(events: list[dict[str, Any]]) -> list[str]:
    return [event["action_name"] for event in events]


def test_the_feed_of_a_project(root: gitlab.Gitlab, project: Any, client_of: Client) -> None:
    maria = client_of("maria")
    assert maria.user is not None
    project.members.create({"user_id": maria.user.id, "access_level": 30})
    theirs = maria.projects.get(project.id)
    theirs.branches.create({"branch": "feature", "ref": "main"})
    theirs.files.create(
        {"file_path": "a", "branch": "feature", "content": "a", "commit_message": "Add a\n\nWith words"}
    )
    merge_request = theirs.mergerequests.create(
        {"source_branch": "feature", "target_branch": "main", "title": "Take a"}
    )
    merge_request.notes.create({"body": "Looks fine"})
    merge_request.state_event = "close"
    merge_request.save()
    project.members.delete(maria.user.id)

    events = _list(root, f"/projects/{project.id}/events", get_all=True)
    assert _names(events)[:7] == [
        "left",
        "closed",
        "commented on",
        "opened",
        "pushed to",
        "pushed new",
        "joined",
    ]
    assert _names(events)[-1] == "created"
    left, closed, commented, opened, pushed, branched = events[:6]
    assert left["author_username"] == "maria"
    assert (closed["target_type"], closed["target_iid"]) == ("MergeRequest", merge_request.iid)
    assert commented["note"]["body"] == "Looks fine"
    assert (commented["target_type"], commented["target_title"]) == ("Note", "Take a")
    assert opened["target_title"] == "Take a"
    assert pushed["push_data"]["commit_count"] == 1
    assert pushed["push_data"]["commit_title"] == "Add a"
    assert (pushed["push_data"]["ref"], pushed["push_data"]["ref_type"]) == ("feature", "branch")
    assert branched["push_data"]["action"] == "created"
    assert branched["push_data"]["commit_from"] is None


def test_events_are_filtered_sorted_and_paged(root: gitlab.Gitlab, project: Any) -> None:
    project.tags.create({"tag_name": "v1", "ref": "main"})
    project.commits.get("main").comments.create({"note": "Nice"})
    path = f"/projects/{project.id}/events"
    pushed = _list(root, path, action="pushed")
    assert set(_names(pushed)) == {"pushed new"}
    assert (pushed[0]["push_data"]["ref"], pushed[0]["push_data"]["ref_type"]) == ("v1", "tag")
    assert _names(_list(root, path, target_type="note")) == ["commented on"]
    assert _list(root, path, target_type="issue") == []
    ids = [event["id"] for event in _list(root, path, sort="asc", get_all=True)]
    assert ids == sorted(ids)
    first = _list(root, path, sort="asc", per_page=1, page=2, get_all=False)
    assert [event["id"] for event in first] == ids[1:2]
    assert _list(root, path, before="2001-01-01") == []
    assert _list(root, path, after="2101-01-01") == []
    assert len(_list(root, path, after="2001-01-01")) == len(ids)
    for wrong in ({"action": "danced"}, {"target_type": "cake"}, {"sort": "sideways"}, {"after": "soon"}):
        with pytest.raises(GitlabHttpError) as refused:
            _list(root, path, **wrong)
        assert refused.value.response_code == 400


def test_everybody_sees_the_events_of_what_he_sees(
    root: gitlab.Gitlab, project: Any, client_of: Client
) -> None:
    public = root.projects.create({"name": "Open", "visibility": "public"})
    stranger = client_of("stranger")
    seen = _list(stranger, "/users/root/events")
    assert {event["project_id"] for event in seen} == {public.id}
    assert _list(stranger, "/events") == []
    assert {event["project_id"] for event in _list(root, "/events")} >= {public.id, project.id}
    with pytest.raises(GitlabHttpError) as unseen:
        _list(stranger, f"/projects/{project.id}/events")
    assert unseen.value.response_code == 404
    with pytest.raises(GitlabHttpError) as nobody:
        _list(stranger, "/users/nobody-at-all/events")
    assert nobody.value.response_code == 404


def test_all_events_of_ones_projects(root: gitlab.Gitlab, project: Any, client_of: Client) -> None:
    maria = client_of("maria")
    assert maria.user is not None
    project.members.create({"user_id": maria.user.id, "access_level": 20})
    assert _names(_list(maria, "/events")) == ["joined"]
    assert "created" in _names(_list(maria, "/events", scope="all"))
