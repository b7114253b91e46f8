"""What a hook may be called for.

Source: gitlabhq app/models/concerns/triggerable_hooks.rb, app/models/hooks/{project_hook,system_hook}.rb.
"""

from __future__ import annotations

PROJECT_TRIGGERS = {
    "push_events": "push_hooks",
    "tag_push_events": "tag_push_hooks",
    "issues_events": "issue_hooks",
    "confidential_issues_events": "confidential_issue_hooks",
    "note_events": "note_hooks",
    "confidential_note_events": "confidential_note_hooks",
    "merge_requests_events": "merge_request_hooks",
    "job_events": "job_hooks",
    "pipeline_events": "pipeline_hooks",
    "wiki_page_events": "wiki_page_hooks",
    "deployment_events": "deployment_hooks",
    "feature_flag_events": "feature_flag_hooks",
    "releases_events": "release_hooks",
    "emoji_events": "emoji_hooks",
    "resource_access_token_events": "resource_access_token_hooks",
    "vulnerability_events": "vulnerability_hooks",
}
"""By the flag of a project's hook: the name of the trigger. Those for things that the forge has not never come."""

SYSTEM_TRIGGERS = {
    "repository_update_events": "repository_update_hooks",
    "push_events": "push_hooks",
    "tag_push_events": "tag_push_hooks",
    "merge_requests_events": "merge_request_hooks",
}

FLAG_OF = {trigger: flag for flag, trigger in (PROJECT_TRIGGERS | SYSTEM_TRIGGERS).items()}
SYSTEM = "system_hooks"
"""The trigger that each system hook is called for."""

DEFAULT_OF_PROJECT = ("push_events",)
DEFAULT_OF_SYSTEM = ("repository_update_events",)


def event_header(trigger: str, *, is_system: bool) -> str:
    """`X-Gitlab-Event`: `Merge Request Hook` for `merge_request_hooks`. Source: `WebHookService.hook_to_event`."""
    if is_system:
        return "System Hook"
    return trigger.removesuffix("s").replace("_", " ").title()
