"""Merge requests as far as they are pure: drafts, labels, push options, messages, who may merge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from nautilus_forge.db.models import MergeRequest, Namespace, Project, ProtectedBranch
from nautilus_forge.git.commits import Commit
from nautilus_forge.merge_requests import entities, push_options
from nautilus_forge.merge_requests.mergeability import may_merge
from nautilus_forge.merge_requests.messages import Facts, merge_message
from nautilus_forge.merge_requests.params import Attributes
from nautilus_forge.merge_requests.people import Cast
from nautilus_forge.merge_requests.service import changed_labels, is_draft
from nautilus_forge.policy import Level
from nautilus_forge.settings import Settings


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Draft: x", True),
        ("draft: x", True),
        ("[Draft] x", True),
        ("(draft) x", True),
        ("Draft - x", False),
        (" Draft: x", False),
        ("Drafting a letter", False),
        ("A draft: x", False),
        ("Draftsman", False),
    ],
)
def test_a_draft_says_so_at_the_beginning_of_its_title(title: str, expected: bool) -> None:
    assert is_draft(title) is expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["a", "b"]),
        ({"labels": "c,d,c"}, ["c", "d"]),
        ({"labels": ""}, []),
        ({"add_labels": "b,c"}, ["a", "b", "c"]),
        ({"remove_labels": "a"}, ["b"]),
        ({"add_labels": ["c"], "remove_labels": ["a", "b"]}, ["c"]),
    ],
)
def test_labels_are_replaced_added_and_removed(given: dict[str, object], expected: list[str]) -> None:
    assert changed_labels(["a", "b"], Attributes.model_validate(given)) == expected


def test_push_options_are_read() -> None:
    given = (
        "merge_request.create",
        "merge_request.target=main",
        "mr.title=A = B",
        "merge_request.label=one",
        "merge_request.label=two",
        "ci.skip",
    )
    assert push_options.are_given(given)
    assert push_options.parse(given) == {
        "create": True,
        "target": "main",
        "title": "A = B",
        "label": ["one", "two"],
    }
    assert not push_options.are_given(("ci.skip", "merge_requests"))


def commit(message: str, author: str = "Ann", parents: tuple[str, ...] = ("p",)) -> Commit:
    email = f"{author.lower()}@example.com"
    return Commit("s", parents, author, email, "", author, email, "", (), message)


FACTS = Facts(
    source_branch="feature",
    target_branch="main",
    title="A title",
    description="",
    reference="group/project!7",
    local_reference="!7",
    url="http://forge/group/project/-/merge_requests/7",
    source_project_id=3,
    merged_by=("Root", "root@example.com"),
    commits=[
        commit("Second\n\nIn full.\n", "Bob"),
        commit("Merge it", "Root", ("p", "q")),
        commit("First\n", "Root"),
    ],
)


def test_the_default_message_leaves_out_what_is_empty() -> None:
    assert merge_message(None, FACTS) == (
        "Merge branch 'feature' into 'main'\n\nA title\n\nSee merge request group/project!7"
    )


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("%{title}\r\n\r\n%{description}\r\n\r\n%{url}", f"A title\n\n{FACTS.url}"),
        ("%{title}\n%{description}\n%{local_reference}", "A title\n!7"),
        ("%{first_commit}", "First"),
        ("%{first_multiline_commit}", "Second\n\nIn full."),
        ("%{all_commits}", "* Second\n\nIn full.\n\n* First"),
        ("%{co_authored_by}", "Co-authored-by: Bob <bob@example.com>"),
        ("%{merged_by} %{source_project_id}", "Root <root@example.com> 3"),
        ("%{approved_by}\n%{title}", "A title"),
        ("%{unknown} 100%", "%{unknown} 100%"),
    ],
)
def test_a_template_names_what_it_wants(template: str, expected: str) -> None:
    assert merge_message(template, FACTS) == expected


def test_a_value_is_no_template() -> None:
    assert merge_message("%{title}", replace(FACTS, title="%{merged_by}")) == "%{merged_by}"


@pytest.mark.parametrize(
    ("push", "merge", "level", "expected"),
    [
        (40, 40, Level.DEVELOPER, False),
        (40, 30, Level.DEVELOPER, True),
        (0, 30, Level.DEVELOPER, True),
        (30, 0, Level.DEVELOPER, True),
        (0, 0, Level.OWNER, False),
        (30, 30, Level.REPORTER, False),
    ],
)
def test_into_protected_branches_merges_who_may_push_or_merge_there(
    push: int, merge: int, level: Level, expected: bool
) -> None:
    rules = [ProtectedBranch(name="main", push_access_level=push, merge_access_level=merge)]
    assert may_merge(level, "main", rules) is expected
    assert may_merge(level, "other", rules) is (level >= Level.DEVELOPER)


def shown(settings: Settings) -> tuple[Project, MergeRequest]:
    project = Project(id=1, path="vision", namespace=Namespace(full_path="root"))
    request = MergeRequest(id=5, iid=2, project_id=1, source_project_id=1, title="A title", state="opened")
    request.source_branch, request.target_branch, request.labels = "feature", "main", ["ml"]
    return project, request


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    url = SecretStr("postgresql+psycopg://nobody@/none")
    return Settings(database_url=url, data_dir=tmp_path, external_url="http://forge")


def test_the_short_form_is_what_lists_of_names_need(settings: Settings) -> None:
    assert entities.simple(settings, *shown(settings)) == {
        "id": 5,
        "iid": 2,
        "project_id": 1,
        "title": "A title",
        "description": None,
        "state": "opened",
        "created_at": None,
        "updated_at": None,
        "web_url": "http://forge/root/vision/-/merge_requests/2",
    }


def test_labels_come_as_words_or_in_full(settings: Settings) -> None:
    def labels(*, in_full: bool) -> list[object]:
        entity = entities.basic(
            settings,
            *shown(settings),
            Cast({}),
            note_count=0,
            detailed_status="mergeable",
            label_details=in_full,
        )
        found: list[object] = entity["labels"]
        return found

    assert labels(in_full=False) == ["ml"]
    (label,) = labels(in_full=True)
    assert label == {
        "id": 0,
        "name": "ml",
        "description": None,
        "description_html": "",
        "text_color": "#FFFFFF",
        "color": "#6699cc",
    }
