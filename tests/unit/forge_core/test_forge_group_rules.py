"""Groups: who may do what, names and paths, the protection that a level stands for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nautilus_forge.appsettings import kept
from nautilus_forge.errors import Forbidden, NotFound
from nautilus_forge.groups.attributes import DEFAULTS, protection_defaults
from nautilus_forge.groups.naming import name_problems, path_problems
from nautilus_forge.policy import (
    Ability,
    GroupAbility,
    GroupStanding,
    Level,
    Standing,
    is_more_open,
    of_deploy_token,
)

LEVELS = st.sampled_from(list(Level))
STANDINGS = st.builds(
    GroupStanding,
    visibility=st.sampled_from(["private", "internal", "public"]),
    level=LEVELS,
    is_signed_in=st.booleans(),
    reaches_below=st.booleans(),
    project_creation=st.sampled_from(["noone", "administrator", "owner", "maintainer", "developer"]),
    subgroup_creation=st.sampled_from(["owner", "maintainer"]),
)


@given(STANDINGS)
def test_who_may_anything_sees_the_group(standing: GroupStanding) -> None:
    for ability in GroupAbility:
        if standing.can(ability):
            assert standing.can(GroupAbility.READ_GROUP)


@given(STANDINGS, LEVELS)
def test_a_higher_level_takes_nothing_away(standing: GroupStanding, level: Level) -> None:
    higher = GroupStanding(**{**standing.__dict__, "level": max(level, standing.level)})
    for ability in GroupAbility:
        assert higher.can(ability) or not standing.can(ability)


@pytest.mark.parametrize(
    ("setting", "lowest"),
    [
        ("developer", Level.DEVELOPER),
        ("maintainer", Level.MAINTAINER),
        ("owner", Level.OWNER),
        ("administrator", Level.ADMIN),
        ("noone", None),
        ("what", None),
    ],
)
def test_from_which_level_on_projects_are_made(setting: str, lowest: Level | None) -> None:
    may = [
        level
        for level in Level
        if GroupStanding("private", level, project_creation=setting).can(GroupAbility.CREATE_PROJECT)
    ]
    assert may == [level for level in Level if lowest is not None and level >= lowest]


def test_what_is_hidden_is_not_found_and_what_is_seen_is_forbidden() -> None:
    with pytest.raises(NotFound):
        GroupStanding("private").require(GroupAbility.ADMIN_GROUP)
    with pytest.raises(Forbidden):
        GroupStanding("private", Level.MAINTAINER).require(GroupAbility.ADMIN_GROUP)
    with pytest.raises(Forbidden):
        GroupStanding("private", reaches_below=True).require(GroupAbility.READ_MEMBER)


@given(st.lists(st.sampled_from(["read_repository", "read_registry", "write_registry", "api", "x"])))
def test_a_deploy_token_does_what_its_scopes_say(scopes: list[str]) -> None:
    standing = Standing("private", deploy=of_deploy_token(scopes))
    assert standing.can(Ability.READ_CODE) == ("read_repository" in scopes)
    assert standing.can(Ability.READ_IMAGE) == ("read_registry" in scopes)
    assert standing.can(Ability.CREATE_IMAGE) == ("write_registry" in scopes)
    assert not any(standing.can(a) for a in (Ability.PUSH_CODE, Ability.READ_MEMBER, Ability.READ_PIPELINE))


def test_openness() -> None:
    assert is_more_open("public", than="internal")
    assert is_more_open("internal", than="private")
    assert not is_more_open("private", than="private")


@given(st.text(max_size=300))
def test_a_good_path_is_one_safe_segment(path: str) -> None:
    if path_problems(path, is_top=True):
        return
    assert path.isascii()
    assert not {"/", "\\", "%", "\0", " "} & set(path)
    assert path not in (".", "..")
    assert not path.startswith((".", "-")) and not path.lower().endswith((".git", ".atom"))


@pytest.mark.parametrize(
    ("name", "is_good"),
    [
        ("Research & more", False),
        ("Research (old)", True),
        ("1st team", True),
        ("🚀 rockets", True),
        ("-x", False),
        ("", False),
        ("x" * 256, False),
    ],
)
def test_names(name: str, *, is_good: bool) -> None:
    assert (name_problems(name) == []) == is_good


def test_a_level_of_protection_is_spelled_out_unless_it_is_already() -> None:
    assert protection_defaults(DEFAULTS)["allowed_to_push"] == [{"access_level": 40}]
    assert protection_defaults(DEFAULTS | {"default_branch_protection": 0})["allow_force_push"] is True
    own = {"allowed_to_push": [{"access_level": 30}]}
    assert protection_defaults(DEFAULTS | {"default_branch_protection_defaults": own}) == own


@pytest.mark.parametrize(
    ("default", "good", "bad"),
    [
        (True, False, 1),
        (5, 7, True),
        (1.5, 2, "2"),
        ([], ["x"], "x"),
        ("a", "b", 1),
        (None, "anything", {}),
        ({}, {"default": 1}, []),
    ],
)
def test_kept_settings_stay_in_their_type(default: object, good: object, bad: object) -> None:
    assert kept.has_kind_of(good, default)
    assert not kept.has_kind_of(bad, default)
