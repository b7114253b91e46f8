"""Who may do what: pure rules, deny by default. The only place where access levels are compared.

What one may not see does not exist (404); what one may see but not do is forbidden (403).

Source: doc/user/permissions.md, gitlabhq app/policies/project_policy.rb.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum

from nautilus_forge.errors import Forbidden, NotFound


class Level(IntEnum):
    """GitLab's access levels."""

    NONE = 0
    MINIMAL = 5
    GUEST = 10
    PLANNER = 15
    REPORTER = 20
    DEVELOPER = 30
    MAINTAINER = 40
    OWNER = 50
    ADMIN = 60
    """An administrator of the instance: every ability everywhere."""


class Visibility(StrEnum):
    PRIVATE = "private"
    INTERNAL = "internal"
    PUBLIC = "public"


class Ability(Enum):
    """What can be done with a project."""

    READ_PROJECT = "read_project"
    READ_MEMBER = "read_member"
    READ_CODE = "read_code"
    READ_PIPELINE = "read_pipeline"
    READ_BUILD = "read_build"
    PUSH_CODE = "push_code"
    CREATE_PIPELINE = "create_pipeline"
    UPDATE_PIPELINE = "update_pipeline"
    UPDATE_BUILD = "update_build"
    DESTROY_PIPELINE = "destroy_pipeline"
    READ_VARIABLE = "admin_cicd_variables"
    ADMIN_VARIABLE = "admin_cicd_variables_write"
    ADMIN_TRIGGER = "manage_trigger"
    READ_ENVIRONMENT = "read_environment"
    UPDATE_ENVIRONMENT = "update_environment"
    DESTROY_DEPLOYMENT = "destroy_deployment"
    READ_RUNNER = "read_runners"
    ADMIN_RUNNER = "admin_runner"
    ADMIN_PROTECTED = "admin_protected_branch"
    ADMIN_MEMBER = "admin_project_member"
    ADMIN_PROJECT = "admin_project"
    CHANGE_VISIBILITY = "change_visibility_level"
    REMOVE_PROJECT = "remove_project"
    READ_IMAGE = "read_container_image"
    CREATE_IMAGE = "create_container_image"
    DESTROY_IMAGE = "destroy_container_image"
    ADMIN_IMAGE = "admin_container_image"
    READ_MERGE_REQUEST = "read_merge_request"
    CREATE_MERGE_REQUEST = "create_merge_request_from"
    UPDATE_MERGE_REQUEST = "update_merge_request"
    DESTROY_MERGE_REQUEST = "destroy_merge_request"
    ADMIN_NOTE = "admin_note"


_MINIMUM: dict[Ability, Level] = {
    Ability.READ_PROJECT: Level.GUEST,
    Ability.READ_MEMBER: Level.GUEST,
    Ability.READ_CODE: Level.REPORTER,
    Ability.READ_PIPELINE: Level.REPORTER,
    Ability.READ_BUILD: Level.REPORTER,
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

_OPEN = {Ability.READ_PROJECT, Ability.READ_MEMBER, Ability.READ_CODE}
"""What everybody may do who sees the project by its visibility alone."""

_OPEN_WITH_PUBLIC_JOBS = {Ability.READ_PIPELINE, Ability.READ_BUILD}
"""The same, where `public_jobs` is on. It also lowers these two to guests of private projects."""

_OF_IMAGES = {Ability.READ_IMAGE, Ability.CREATE_IMAGE, Ability.DESTROY_IMAGE, Ability.ADMIN_IMAGE}

_OF_MERGE_REQUESTS = {
    Ability.READ_MERGE_REQUEST,
    Ability.CREATE_MERGE_REQUEST,
    Ability.UPDATE_MERGE_REQUEST,
    Ability.DESTROY_MERGE_REQUEST,
}

_OF_JOB = (
    _OPEN
    | _OPEN_WITH_PUBLIC_JOBS
    | {Ability.READ_IMAGE, Ability.CREATE_IMAGE, Ability.DESTROY_IMAGE}
    | {Ability.READ_ENVIRONMENT, Ability.UPDATE_ENVIRONMENT}
)
"""What a job token may do at most in its own project, and in those that let its project in."""

_WHILE_ARCHIVED = (
    _OPEN
    | _OPEN_WITH_PUBLIC_JOBS
    | {
        Ability.READ_MERGE_REQUEST,
        Ability.READ_ENVIRONMENT,
        Ability.READ_IMAGE,
        Ability.READ_VARIABLE,
        Ability.READ_RUNNER,
        Ability.ADMIN_MEMBER,
        Ability.ADMIN_PROJECT,
        Ability.CHANGE_VISIBILITY,
        Ability.REMOVE_PROJECT,
    }
)


@dataclass(frozen=True)
class Standing:
    """How somebody stands to one project. `is_signed_in`: a user of ours who is not external.

    `job`: for a job token "own" (the job's own project), "allowed" (one whose allowlist has the job's project) or
    "other"; else None.
    `registry`: who reaches the images: enabled (all who see the project), private (members), disabled (nobody).
    """

    visibility: str
    level: Level = Level.NONE
    is_signed_in: bool = False
    is_archived: bool = False
    public_jobs: bool = True
    job: str | None = None
    registry: str = "enabled"
    merge_requests: str = "enabled"
    """Who reaches the merge requests, in the same words."""
    deploy: frozenset[Ability] | None = None
    """What a deploy token is good for here; None: no deploy token asks."""

    def can(self, ability: Ability) -> bool:
        if self.is_archived and ability not in _WHILE_ARCHIVED:
            return False
        if ability in _OF_IMAGES and self.registry == "disabled":
            return False
        if ability in _OF_MERGE_REQUESTS and self.merge_requests == "disabled":
            return False
        if self.job is not None:
            return self._may_job(ability)
        if self.deploy is not None:
            return ability in self.deploy or self._is_open(ability)
        return self.level >= self._minimum(ability) or self._is_open(ability)

    def require(self, ability: Ability) -> None:
        """Raises `NotFound` where the project may not even be seen, else `Forbidden`."""
        if self.can(ability):
            return
        if not self.can(Ability.READ_PROJECT):
            raise NotFound("Project")
        raise Forbidden

    def _may_job(self, ability: Ability) -> bool:
        if self.job in ("own", "allowed"):
            of_its_user = self.level >= self._minimum(ability) or self._is_open(ability)
            is_own_image = self.job == "own" and ability in _OF_IMAGES
            return ability in _OF_JOB and (is_own_image or of_its_user)
        return self.visibility == Visibility.PUBLIC and (ability in _OPEN or self._is_open_image(ability))

    def _is_open_image(self, ability: Ability) -> bool:
        return ability is Ability.READ_IMAGE and self.registry == "enabled"

    def _minimum(self, ability: Ability) -> Level:
        if ability in _OPEN_WITH_PUBLIC_JOBS and self.public_jobs:
            return Level.GUEST
        return _MINIMUM.get(ability, Level.ADMIN)

    def _is_open(self, ability: Ability) -> bool:
        sees = self.visibility == Visibility.PUBLIC or (
            self.visibility == Visibility.INTERNAL and self.is_signed_in
        )
        return sees and (
            ability in _OPEN
            or (self.public_jobs and ability in _OPEN_WITH_PUBLIC_JOBS)
            or self._is_open_image(ability)
            or (ability is Ability.READ_MERGE_REQUEST and self.merge_requests == "enabled")
        )


_OF_DEPLOY_TOKEN = {
    "read_repository": {Ability.READ_PROJECT, Ability.READ_CODE},
    "read_registry": {Ability.READ_PROJECT, Ability.READ_IMAGE},
    "write_registry": {Ability.READ_PROJECT, Ability.CREATE_IMAGE},
}


def of_deploy_token(scopes: Iterable[str]) -> frozenset[Ability]:
    """What a deploy token may do in a project that it reaches."""
    return frozenset().union(*(_OF_DEPLOY_TOKEN.get(scope, set()) for scope in scopes))


def may_push(level: Level, push_access_level: int) -> bool:
    """May somebody of this level push to a branch protected at `push_access_level` (0: nobody)?"""
    if push_access_level == Level.NONE:
        return False
    return level >= push_access_level


class GroupAbility(Enum):
    """What can be done with a group."""

    READ_GROUP = "read_group"
    READ_MEMBER = "read_group_member"
    READ_IMAGE = "read_container_image"
    CREATE_PROJECT = "create_projects"
    CREATE_SUBGROUP = "create_subgroup"
    READ_RUNNER = "read_group_runners"
    ADMIN_RUNNER = "admin_group_runners"
    READ_DEPLOY_TOKEN = "read_deploy_token"  # noqa: S105
    ADMIN_DEPLOY_TOKEN = "create_deploy_token"  # noqa: S105
    READ_VARIABLE = "admin_cicd_variables"
    ADMIN_VARIABLE = "admin_cicd_variables_write"
    ADMIN_HOOK = "admin_hook"
    ADMIN_MEMBER = "admin_group_member"
    ADMIN_TOKEN = "manage_resource_access_tokens"  # noqa: S105
    ADMIN_GROUP = "admin_group"
    CHANGE_VISIBILITY = "change_visibility_level"
    REMOVE_GROUP = "remove_group"


_GROUP_MINIMUM: dict[GroupAbility, Level] = {
    GroupAbility.READ_GROUP: Level.MINIMAL,
    GroupAbility.READ_MEMBER: Level.MINIMAL,
    GroupAbility.READ_IMAGE: Level.REPORTER,
    GroupAbility.READ_RUNNER: Level.MAINTAINER,
    GroupAbility.ADMIN_RUNNER: Level.OWNER,
    GroupAbility.READ_DEPLOY_TOKEN: Level.MAINTAINER,
    GroupAbility.ADMIN_DEPLOY_TOKEN: Level.OWNER,
    GroupAbility.READ_VARIABLE: Level.OWNER,
    GroupAbility.ADMIN_VARIABLE: Level.OWNER,
    GroupAbility.ADMIN_HOOK: Level.OWNER,
    GroupAbility.ADMIN_MEMBER: Level.OWNER,
    GroupAbility.ADMIN_TOKEN: Level.OWNER,
    GroupAbility.ADMIN_GROUP: Level.OWNER,
    GroupAbility.CHANGE_VISIBILITY: Level.OWNER,
    GroupAbility.REMOVE_GROUP: Level.OWNER,
}

_PROJECT_CREATION = {
    "administrator": Level.ADMIN,
    "owner": Level.OWNER,
    "maintainer": Level.MAINTAINER,
    "developer": Level.DEVELOPER,
}


@dataclass(frozen=True)
class GroupStanding:
    """How somebody stands to one group.

    `reaches_below`: a member of a project or a subgroup in it, who then sees the group too. `project_creation`
    (noone, administrator, owner, maintainer, developer), `subgroup_creation` (owner, maintainer): the group's
    settings.

    Source: gitlabhq app/policies/group_policy.rb.
    """

    visibility: str
    level: Level = Level.NONE
    is_signed_in: bool = False
    reaches_below: bool = False
    project_creation: str = "developer"
    subgroup_creation: str = "maintainer"

    def can(self, ability: GroupAbility) -> bool:
        match ability:
            case GroupAbility.READ_GROUP:
                return self._is_open() or self.reaches_below or self.level >= _GROUP_MINIMUM[ability]
            case GroupAbility.READ_MEMBER:
                return self._is_open() or self.level >= _GROUP_MINIMUM[ability]
            case GroupAbility.CREATE_PROJECT:
                needed = _PROJECT_CREATION.get(self.project_creation)
                return needed is not None and self.level >= needed
            case GroupAbility.CREATE_SUBGROUP:
                return self.level >= (
                    Level.MAINTAINER if self.subgroup_creation == "maintainer" else Level.OWNER
                )
        return self.level >= _GROUP_MINIMUM.get(ability, Level.ADMIN)

    def require(self, ability: GroupAbility) -> None:
        """Raises `NotFound` where the group may not even be seen, else `Forbidden`."""
        if self.can(ability):
            return
        if not self.can(GroupAbility.READ_GROUP):
            raise NotFound("Group")
        raise Forbidden

    def _is_open(self) -> bool:
        return self.visibility == Visibility.PUBLIC or (
            self.visibility == Visibility.INTERNAL and self.is_signed_in
        )


_OPENNESS = (Visibility.PRIVATE, Visibility.INTERNAL, Visibility.PUBLIC)


def is_more_open(visibility: str, than: str) -> bool:
    """Does the first visibility show to more people than the second?"""
    return _OPENNESS.index(Visibility(visibility)) > _OPENNESS.index(Visibility(than))
