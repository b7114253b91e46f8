"""What is tried again, in GitLab's words."""

from __future__ import annotations

import pytest

from nautilus.core.retrying import DEFAULT_ON, RetryPolicy, Source, source_of
from nautilus_forge.ci.entries.settings import MAX_RETRIES, RETRY_REASONS


def test_machines_images_and_lost_runners_are_tried_again_and_the_users_errors_are_not() -> None:
    retry = RetryPolicy().in_ci()
    assert retry is not None
    assert {"runner_system_failure", "image_pull_failure", "no_updates_running"} <= set(retry["when"])
    assert not {"script_failure", "job_execution_timeout", "unknown_failure"} & set(retry["when"])
    assert "exit_codes" not in retry


@pytest.mark.parametrize("source", Source)
def test_each_source_has_words_that_gitlab_knows(source: Source) -> None:
    retry = RetryPolicy(1, (source,)).in_ci()
    assert retry is not None
    assert set(retry.get("when", ())) <= RETRY_REASONS
    assert retry.get("when") or retry.get("exit_codes")
    assert retry["max"] <= MAX_RETRIES


def test_a_job_killed_for_memory_is_known_by_its_exit_code() -> None:
    assert RetryPolicy(2, (Source.MEMORY,)).in_ci() == {"max": 2, "exit_codes": [137]}
    assert source_of("script_failure", 137) is Source.MEMORY
    assert source_of("script_failure", 1) is Source.USER


def test_no_retries_is_no_word_in_the_file() -> None:
    assert RetryPolicy(0).in_ci() is None


def test_what_is_stored_comes_back_and_what_is_missing_is_the_default() -> None:
    policy = RetryPolicy(1, (Source.MEMORY, Source.TIMEOUT))
    assert RetryPolicy.of(policy.as_json()) == policy
    assert RetryPolicy.of({}) == RetryPolicy(2, DEFAULT_ON)


def test_an_end_without_a_telling_reason_has_no_source() -> None:
    assert source_of("unknown_failure", None) is None
    assert source_of(None, None) is None
