"""The settings that exist, their types and GitLab's defaults; and reading them.

Source: doc/api/settings.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.appsettings import kept
from nautilus_forge.ci.duration import is_duration_or_never
from nautilus_forge.db.models import ApplicationSetting
from nautilus_forge.errors import InvalidRecord
from nautilus_forge.git.refs import is_valid_name
from nautilus_forge.params import CommaList, Field, ParamModel, split_commas, whole_number

VisibilityName = Literal["private", "internal", "public"]


class SettingValues(ParamModel):
    """Settings with their types and defaults; a `PUT` may name any of them. Which have an effect:
    docs/reference/forge-access.md.
    """

    allow_local_requests_from_system_hooks: bool = True
    allow_local_requests_from_web_hooks_and_services: bool = False
    allow_runner_registration_token: bool = True
    can_create_group: bool = True
    ci_max_includes: int = Field(default=150, ge=0)
    ci_max_total_yaml_size_bytes: int = Field(default=157_286_400, ge=0)
    container_registry_token_expire_delay: int = Field(default=5, ge=1)
    default_artifacts_expire_in: str = "30 days"
    default_branch_name: str = "main"
    default_branch_protection: Annotated[Literal[0, 1, 2, 3, 4], BeforeValidator(whole_number)] = 2
    default_branch_protection_defaults: dict[str, Any] | None = None
    default_ci_config_path: str | None = None
    default_project_visibility: VisibilityName = "private"
    default_group_visibility: VisibilityName = "private"
    default_project_creation: Annotated[Literal[0, 1, 2, 3, 4], BeforeValidator(whole_number)] = 2
    default_projects_limit: int = Field(default=100_000, ge=0)
    deny_all_requests_except_allowed: bool = False
    domain_allowlist: CommaList = Field(default=[])
    gravatar_enabled: bool = False
    enabled_git_access_protocol: Literal["ssh", "http", "all", "nil", ""] | None = None
    help_page_text: str = ""
    home_page_url: str | None = None
    import_sources: CommaList = Field(default=["git"])
    keep_latest_artifact: bool = True
    max_artifacts_size: int = Field(default=10_240, ge=1, description="MiB")
    outbound_local_requests_whitelist: CommaList = Field(default=[])
    password_authentication_enabled_for_git: bool = True
    password_authentication_enabled_for_web: bool = True
    minimum_password_length: int = Field(default=8, ge=8, le=128)
    personal_access_token_prefix: str | None = Field(default="glpat-", max_length=20)
    push_event_activities_limit: int = Field(default=3, ge=0)
    push_event_hooks_limit: int = Field(default=3, ge=0)
    receive_max_input_size: int | None = None
    require_personal_access_token_expiry: bool = True
    require_two_factor_authentication: bool = False
    restricted_visibility_levels: Annotated[list[VisibilityName], BeforeValidator(split_commas)] = []  # noqa: RUF012
    session_expire_delay: int = Field(default=10_080, ge=1, description="minutes")
    shared_runners_enabled: bool = True
    signup_enabled: bool = False
    user_default_external: bool = False
    user_oauth_applications: bool = True
    valid_runner_registrars: CommaList = Field(default=["project", "group"])

    @property
    def default_project_creation_level(self) -> str:
        """The same as groups name it."""
        return PROJECT_CREATION[self.default_project_creation]


PROJECT_CREATION = ("noone", "maintainer", "developer", "administrator", "owner")
"""Source: gitlabhq lib/gitlab/access.rb (`project_creation_values`)."""


def refuse(given: dict[str, Any]) -> None:
    """Raises `InvalidRecord` for values that no setting may have."""
    problems: dict[str, list[str]] = {}
    branch = given.get("default_branch_name")
    if branch is not None and not is_valid_name(branch):
        problems["default_branch_name"] = ["is not a valid branch name"]
    if given.get("require_two_factor_authentication"):
        problems["require_two_factor_authentication"] = [
            "cannot be turned on: there is no second factor here"
        ]
    prefix = given.get("personal_access_token_prefix")
    if prefix and not _PREFIX.fullmatch(prefix):
        problems["personal_access_token_prefix"] = [
            "can contain only letters of the Base64 alphabet (RFC4648) with the addition of '@', ':' and '.'"
        ]
    unit = given.get("default_artifacts_expire_in")
    if unit is not None and unit != "0" and not is_duration_or_never(unit):
        problems["default_artifacts_expire_in"] = ["is not a correct duration"]
    if problems:
        raise InvalidRecord(problems)


_PREFIX = re.compile(r"[a-zA-Z0-9_+=/@:.-]+")


@dataclass(frozen=True)
class Stored:
    """`kept`: the settings without effect. The times are None as long as nothing was ever set."""

    values: SettingValues
    kept: dict[str, Any]
    created_at: datetime | None
    updated_at: datetime | None


async def stored(db: AsyncSession) -> Stored:
    """All that there is, with the defaults."""
    return _of(await db.get(ApplicationSetting, 1))


def _of(row: ApplicationSetting | None) -> Stored:
    given = row.values if row is not None else {}
    others = {name: given.get(name, default) for name, default in kept.DEFAULTS.items()}
    moment = row.updated_at if row is not None else None
    return Stored(SettingValues.model_validate(given), others, moment, moment)


async def current_values(db: AsyncSession) -> SettingValues:
    """The settings as they stand: the defaults, with what an administrator changed."""
    row = await db.get(ApplicationSetting, 1)
    return SettingValues.model_validate(row.values if row is not None else {})


async def change(db: AsyncSession, given: dict[str, Any]) -> Stored:
    """Store the given settings (already checked) and return all of them."""
    row = await db.get(ApplicationSetting, 1, with_for_update=True)
    if row is None:
        row = ApplicationSetting(id=1, values={})
        db.add(row)
    row.values = {**row.values, **given}
    await db.flush()
    await db.refresh(row)
    return _of(row)
