"""Parameters of hooks.

Source: gitlabhq lib/api/{project_hooks,system_hooks}.rb, lib/api/helpers/web_hooks_helpers.rb.
"""

from __future__ import annotations

from typing import Literal

from nautilus_forge.params import ParamModel

Strategy = Literal["wildcard", "regex", "all_branches"]


class KeyValue(ParamModel):
    key: str
    value: str


class HookAttributes(ParamModel):
    """What hooks of projects and of the instance have in common."""

    name: str | None = None
    description: str | None = None
    token: str | None = None
    push_events: bool | None = None
    tag_push_events: bool | None = None
    merge_requests_events: bool | None = None
    enable_ssl_verification: bool | None = None
    push_events_branch_filter: str | None = None
    branch_filter_strategy: Strategy | None = None
    custom_webhook_template: str | None = None
    url_variables: list[KeyValue] | None = None
    custom_headers: list[KeyValue] | None = None


class ProjectHookAttributes(HookAttributes):
    issues_events: bool | None = None
    confidential_issues_events: bool | None = None
    note_events: bool | None = None
    confidential_note_events: bool | None = None
    job_events: bool | None = None
    pipeline_events: bool | None = None
    wiki_page_events: bool | None = None
    deployment_events: bool | None = None
    feature_flag_events: bool | None = None
    releases_events: bool | None = None
    emoji_events: bool | None = None
    resource_access_token_events: bool | None = None
    vulnerability_events: bool | None = None


class SystemHookAttributes(HookAttributes):
    repository_update_events: bool | None = None


class CreateProjectHook(ProjectHookAttributes):
    url: str


class ChangeProjectHook(ProjectHookAttributes):
    url: str | None = None


class CreateSystemHook(SystemHookAttributes):
    url: str


class ChangeSystemHook(SystemHookAttributes):
    url: str | None = None


class OneValue(ParamModel):
    value: str
