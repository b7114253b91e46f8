"""The rules of webhooks that need neither a database nor a receiver.

Source: gitlabhq spec/support/shared_examples/models/concerns/auto_disabling_hooks_shared_examples.rb,
spec/models/hooks/active_hook_filter_spec.rb, spec/lib/gitlab/push_options_spec.rb.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from nautilus_forge.db.models import WebHook
from nautilus_forge.errors import TooManyRequests
from nautilus_forge.webhooks import disabling, filters
from nautilus_forge.webhooks.hook import OpenedHook, interpolated, missing
from nautilus_forge.webhooks.payloads.push import options_shown
from nautilus_forge.webhooks.throttle import Throttle
from nautilus_forge.webhooks.triggers import event_header

NOW = datetime(2025, 11, 21, 12, tzinfo=UTC)


def hook(**changes: object) -> WebHook:
    values: dict[str, object] = {
        "project_id": 1,
        "recent_failures": 0,
        "disabled_until": None,
        "push_events_branch_filter": None,
        "branch_filter_strategy": "wildcard",
    }
    return WebHook(**(values | changes))


def test_four_failures_in_a_row_make_a_hook_rest_for_a_minute() -> None:
    failing = hook()
    for _ in range(3):
        disabling.note_failure(failing, NOW)
    assert disabling.alert_status(failing) == "executable"
    disabling.note_failure(failing, NOW)
    assert failing.disabled_until == NOW + timedelta(minutes=1)
    assert disabling.is_resting(failing, NOW)


def test_each_further_failure_doubles_the_rest_up_to_a_day() -> None:
    failing, now, rests = hook(recent_failures=3), NOW, []
    for _ in range(14):
        disabling.note_failure(failing, now)
        assert failing.disabled_until is not None
        rests.append(failing.disabled_until - now)
        now = failing.disabled_until + timedelta(seconds=1)
    assert [rest / timedelta(minutes=1) for rest in rests[:4]] == [1, 2, 4, 8]
    assert rests[-1] == timedelta(days=1)


def test_failures_that_were_under_way_when_the_rest_began_do_not_count() -> None:
    failing = hook(recent_failures=3)
    disabling.note_failure(failing, NOW)
    disabling.note_failure(failing, NOW)
    assert failing.recent_failures == 4


def test_the_fortieth_failure_disables_and_a_success_enables() -> None:
    failing = hook(recent_failures=39, disabled_until=NOW)
    disabling.note_failure(failing, NOW + timedelta(seconds=1))
    assert disabling.alert_status(failing) == "disabled"
    disabling.note_success(failing)
    assert disabling.alert_status(failing) == "executable"
    assert failing.disabled_until is None


def test_hooks_of_the_instance_are_never_disabled() -> None:
    failing = hook(project_id=None)
    for _ in range(50):
        disabling.note_failure(failing, NOW)
    assert disabling.alert_status(failing) == "executable"


@pytest.mark.parametrize(
    ("strategy", "wanted", "branch", "is_wanted"),
    [
        ("wildcard", None, "main", True),
        ("wildcard", "", "main", True),
        ("wildcard", "release-*", "release-1", True),
        ("wildcard", "release-*", "main", False),
        ("wildcard", "main", "main", True),
        ("regex", "^release-[0-9]+$", "release-12", True),
        ("regex", "^release-[0-9]+$", "release-x", False),
        ("regex", "(a*)*b", "a" * 5000, False),
        ("all_branches", "nothing", "main", True),
    ],
)
def test_which_branches_a_hook_wants(strategy: str, wanted: str | None, branch: str, is_wanted: bool) -> None:
    asked = hook(branch_filter_strategy=strategy, push_events_branch_filter=wanted)
    assert filters.wants_branch(asked, branch) is is_wanted


@pytest.mark.parametrize("wanted", ["~bad", "a b", "a..b", "a^", "-a", "a.lock", "/a", "a/"])
def test_filters_that_no_branch_could_pass(wanted: str) -> None:
    assert not filters.is_valid("wildcard", wanted)


def test_variables_of_a_url() -> None:
    url = "https://{host}/{path.one}?{x-1}={}"
    assert interpolated(url, {"host": "h", "path.one": "p", "x-1": "1"}) == "https://h/p?1={}"
    assert missing(url, {"host": "h"}) == ["path.one", "x-1"]


def test_credentials_of_a_url_are_not_shown() -> None:
    secrets = OpenedHook("https://user:secret@host/{key}", None, {"key": "hidden"}, {})
    assert secrets.shown_url == "https://*****:*****@host/{key}"
    assert secrets.full_url == "https://user:secret@host/hidden"


def test_push_options_are_shown_as_gitlab_nests_them() -> None:
    given = ["ci.skip", "ci.variable=A=1", "ci.variable=B=2", "mr.create", "merge_request.title=T", "plain"]
    assert options_shown(given) == {
        "ci": {"skip": True, "variable": {"A=1": 1, "B=2": 1}},
        "merge_request": {"create": True, "title": "T"},
    }


@pytest.mark.parametrize(
    ("trigger", "header"),
    [
        ("push_hooks", "Push Hook"),
        ("tag_push_hooks", "Tag Push Hook"),
        ("merge_request_hooks", "Merge Request Hook"),
        ("confidential_note_hooks", "Confidential Note Hook"),
    ],
)
def test_the_names_of_events(trigger: str, header: str) -> None:
    assert event_header(trigger, is_system=False) == header
    assert event_header(trigger, is_system=True) == "System Hook"


def test_a_throttle_lets_five_a_minute_through_for_each_project_and_user() -> None:
    throttle = Throttle()
    for _ in range(5):
        throttle.require(1, 1)
    with pytest.raises(TooManyRequests) as refused:
        throttle.require(1, 1)
    assert 0 < int(refused.value.headers["Retry-After"]) <= 61
    throttle.require(1, 2)
    throttle.require(2, 1)
