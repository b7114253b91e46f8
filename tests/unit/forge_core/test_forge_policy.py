"""Who may do what: the matrix of levels, visibilities and abilities."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nautilus_forge.errors import Forbidden, NotFound
from nautilus_forge.policy import Ability, Level, Standing, Visibility, may_push

PRIVATE = Visibility.PRIVATE

MINIMUM_IN_PRIVATE = {
    Ability.READ_PROJECT: Level.GUEST,
    Ability.READ_MEMBER: Level.GUEST,
    Ability.READ_CODE: Level.REPORTER,
    Ability.READ_PIPELINE: Level.GUEST,
    Ability.READ_BUILD: Level.GUEST,
    Ability.PUSH_CODE: Level.DEVELOPER,
    Ability.CREATE_PIPELINE: Level.DEVELOPER,
    Ability.UPDATE_PIPELINE: Level.DEVELOPER,
    Ability.UPDATE_BUILD: Level.DEVELOPER,
    Ability.DESTROY_PIPELINE: Level.OWNER,
    Ability.READ_VARIABLE: Level.MAINTAINER,
    Ability.ADMIN_VARIABLE: Level.MAINTAINER,
    Ability.ADMIN_TRIGGER: Level.MAINTAINER,
    Ability.READ_ENVIRONMENT: Level.REPORTER,
    Ability.UPDATE_ENVIRONMENT: Level.DEVELOPER,
    Ability.DESTROY_DEPLOYMENT: Level.MAINTAINER,
    Ability.READ_RUNNER: Level.MAINTAINER,
    Ability.ADMIN_RUNNER: Level.MAINTAINER,
    Ability.ADMIN_PROTECTED: Level.MAINTAINER,
    Ability.ADMIN_MEMBER: Level.MAINTAINER,
    Ability.ADMIN_PROJECT: Level.MAINTAINER,
    Ability.CHANGE_VISIBILITY: Level.OWNER,
    Ability.REMOVE_PROJECT: Level.OWNER,
    Ability.READ_IMAGE: Level.REPORTER,
    Ability.CREATE_IMAGE: Level.DEVELOPER,
    Ability.DESTROY_IMAGE: Level.DEVELOPER,
    Ability.ADMIN_IMAGE: Level.MAINTAINER,
    Ability.READ_MERGE_REQUEST: Level.REPORTER,
    Ability.CREATE_MERGE_REQUEST: Level.DEVELOPER,
    Ability.UPDATE_MERGE_REQUEST: Level.DEVELOPER,
    Ability.DESTROY_MERGE_REQUEST: Level.OWNER,
    Ability.ADMIN_NOTE: Level.MAINTAINER,
}

IMAGES = {Ability.READ_IMAGE, Ability.CREATE_IMAGE, Ability.DESTROY_IMAGE, Ability.ADMIN_IMAGE}


def test_the_matrix_names_every_ability() -> None:
    assert set(MINIMUM_IN_PRIVATE) == set(Ability)


@pytest.mark.parametrize("ability", Ability)
@pytest.mark.parametrize("level", Level)
def test_levels_in_a_private_project(ability: Ability, level: Level) -> None:
    standing = Standing(PRIVATE, level, is_signed_in=True)
    assert standing.can(ability) is (level >= MINIMUM_IN_PRIVATE[ability])


@pytest.mark.parametrize("ability", Ability)
@pytest.mark.parametrize(
    ("visibility", "is_signed_in"),
    [(Visibility.PUBLIC, False), (Visibility.PUBLIC, True), (Visibility.INTERNAL, True)],
)
def test_strangers_read_what_is_open_and_change_nothing(
    ability: Ability, visibility: str, is_signed_in: bool
) -> None:
    reads = {
        Ability.READ_PROJECT,
        Ability.READ_MEMBER,
        Ability.READ_CODE,
        Ability.READ_PIPELINE,
        Ability.READ_BUILD,
        Ability.READ_IMAGE,
        Ability.READ_MERGE_REQUEST,
    }
    assert Standing(visibility, is_signed_in=is_signed_in).can(ability) is (ability in reads)


def test_merge_requests_can_be_for_members_alone_or_switched_off() -> None:
    for_members = Standing(Visibility.PUBLIC, merge_requests="private")
    assert not for_members.can(Ability.READ_MERGE_REQUEST)
    assert Standing(Visibility.PUBLIC, Level.REPORTER, merge_requests="private").can(
        Ability.READ_MERGE_REQUEST
    )
    off = Standing(Visibility.PUBLIC, Level.ADMIN, merge_requests="disabled")
    assert not off.can(Ability.READ_MERGE_REQUEST) and not off.can(Ability.CREATE_MERGE_REQUEST)


@pytest.mark.parametrize("ability", [Ability.READ_PIPELINE, Ability.READ_BUILD])
def test_pipelines_can_be_kept_from_strangers_and_guests(ability: Ability) -> None:
    assert not Standing(Visibility.PUBLIC, public_jobs=False).can(ability)
    assert not Standing(PRIVATE, Level.GUEST, public_jobs=False).can(ability)
    assert Standing(PRIVATE, Level.REPORTER, public_jobs=False).can(ability)


def test_internal_is_not_for_nobody_and_not_for_external_users() -> None:
    assert not Standing(Visibility.INTERNAL, is_signed_in=False).can(Ability.READ_PROJECT)


@given(level=st.sampled_from(Level), ability=st.sampled_from(Ability))
def test_a_job_never_changes_anything_but_images_and_environments(level: Level, ability: Ability) -> None:
    own = Standing(PRIVATE, level, is_signed_in=True, job="own")
    if ability in IMAGES:
        assert own.can(ability) is (ability is not Ability.ADMIN_IMAGE)
        return
    if ability is Ability.UPDATE_ENVIRONMENT:
        assert own.can(ability) is (level >= Level.DEVELOPER)
        return
    changes = MINIMUM_IN_PRIVATE[ability] >= Level.DEVELOPER
    assert not (changes and own.can(ability))


@given(level=st.sampled_from(Level), ability=st.sampled_from(Ability))
def test_where_a_job_is_let_in_it_does_no_more_than_its_user_and_than_at_home(
    level: Level, ability: Ability
) -> None:
    if Standing(PRIVATE, level, is_signed_in=True, job="allowed").can(ability):
        assert Standing(PRIVATE, level, is_signed_in=True, job="own").can(ability)
        assert Standing(PRIVATE, level, is_signed_in=True).can(ability)


@given(level=st.sampled_from(Level), ability=st.sampled_from(Ability))
def test_a_job_sees_of_other_projects_what_everybody_sees(level: Level, ability: Ability) -> None:
    assert not Standing(PRIVATE, level, is_signed_in=True, job="other").can(ability)
    public = Standing(Visibility.PUBLIC, level, is_signed_in=True, job="other")
    open_to_all = {Ability.READ_PROJECT, Ability.READ_MEMBER, Ability.READ_CODE, Ability.READ_IMAGE}
    assert public.can(ability) is (ability in open_to_all)


@given(
    level=st.sampled_from(Level),
    ability=st.sampled_from(sorted(IMAGES, key=str)),
    job=st.sampled_from([None, "own", "other"]),
)
def test_images_can_be_kept_from_strangers_and_from_all(
    level: Level, ability: Ability, job: str | None
) -> None:
    def public(registry: str) -> Standing:
        return Standing(Visibility.PUBLIC, level, is_signed_in=True, job=job, registry=registry)

    assert not public("disabled").can(ability)
    members_only = public("private")
    if job == "other":
        assert not members_only.can(ability)
    elif job is None:
        assert members_only.can(ability) is (level >= MINIMUM_IN_PRIVATE[ability])


@given(level=st.sampled_from(Level))
def test_an_archived_project_takes_no_work(level: Level) -> None:
    archived = Standing(PRIVATE, level, is_signed_in=True, is_archived=True)
    work = (Ability.PUSH_CODE, Ability.CREATE_PIPELINE, Ability.UPDATE_BUILD, Ability.ADMIN_VARIABLE)
    assert not any(archived.can(ability) for ability in work)
    assert not any(archived.can(ability) for ability in IMAGES - {Ability.READ_IMAGE})


def test_what_one_may_not_see_does_not_exist_and_what_one_may_not_do_is_forbidden() -> None:
    with pytest.raises(NotFound, match="404 Project Not Found"):
        Standing(PRIVATE).require(Ability.PUSH_CODE)
    with pytest.raises(Forbidden, match="403 Forbidden"):
        Standing(PRIVATE, Level.GUEST).require(Ability.PUSH_CODE)


@pytest.mark.parametrize(
    ("level", "rule", "may"),
    [(40, 40, True), (30, 40, False), (30, 30, True), (60, 0, False), (50, 60, False)],
)
def test_pushing_to_protected_branches(level: int, rule: int, may: bool) -> None:
    assert may_push(Level(level), rule) is may
