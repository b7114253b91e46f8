"""Groups and subgroups as python-gitlab uses them.

Source: doc/api/groups.md, gitlabhq spec/requests/api/groups_spec.rb.
"""

from __future__ import annotations

from collections.abc import Callable

import gitlab
import pytest
from gitlab.exceptions import GitlabCreateError, GitlabGetError


def test_a_group_is_made_read_changed_and_deleted(root: gitlab.Gitlab) -> None:
    made = root.groups.create({"name": "Research", "path": "research", "description": "what we study"})

    read = root.groups.get("research")
    assert (read.id, read.full_name, read.visibility) == (made.id, "Research", "private")
    assert read.web_url == f"{root.url}/groups/research"

    read.name, read.visibility = "Studies", "internal"
    read.save()
    assert (root.groups.get(made.id).name, root.groups.get(made.id).visibility) == ("Studies", "internal")

    read.delete()
    with pytest.raises(GitlabGetError) as gone:
        root.groups.get(made.id)
    assert (gone.value.response_code, gone.value.error_message) == (404, "404 Group Not Found")
    root.groups.create({"name": "Research", "path": "research"})


def test_subgroups_and_their_projects_are_listed(root: gitlab.Gitlab) -> None:
    top = root.groups.create({"name": "Lab", "path": "lab"})
    middle = root.groups.create({"name": "Vision", "path": "vision", "parent_id": top.id})
    leaf = root.groups.create({"name": "Digits", "path": "digits", "parent_id": middle.id})
    project = root.projects.create({"name": "mnist", "namespace_id": leaf.id})

    assert project.path_with_namespace == "lab/vision/digits/mnist"
    assert root.groups.get("lab/vision/digits").full_name == "Lab / Vision / Digits"
    assert [group.path for group in top.subgroups.list()] == ["vision"]
    assert [group.path for group in top.descendant_groups.list()] == ["digits", "vision"]
    assert top.projects.list() == []
    assert [found.id for found in top.projects.list(include_subgroups=True)] == [project.id]
    assert [group.path for group in root.groups.list(top_level_only=True)] == ["lab"]


def test_who_is_no_member_sees_no_private_group(
    root: gitlab.Gitlab, client_of: Callable[..., gitlab.Gitlab]
) -> None:
    private = root.groups.create({"name": "Secret", "path": "secret", "visibility": "private"})
    other = client_of("otto")

    with pytest.raises(GitlabGetError) as hidden:
        other.groups.get(private.id)
    assert hidden.value.response_code == 404
    with pytest.raises(GitlabCreateError) as refused:
        other.groups.create({"name": "In it", "path": "in-it", "parent_id": private.id})
    assert refused.value.response_code == 404
    assert other.groups.list() == []
