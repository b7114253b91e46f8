"""Predefined variables.

Source: doc/ci/variables/predefined_variables.md, spec/lib/gitlab/ci/variables/builder_spec.rb.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from nautilus_forge.ci.facts import (
    CommitFacts,
    JobFacts,
    PipelineFacts,
    ProjectFacts,
    RunnerFacts,
    ServerFacts,
    UserFacts,
)
from nautilus_forge.ci.model import Environment, When
from nautilus_forge.ci.predefined import as_mapping, job_variables, pipeline_variables, seed_variables
from nautilus_forge.ci.slugs import environment_slug, environment_tier, group_name, slug

SERVER = ServerFacts("http://localhost:10080", "17.5.1", "abc123")
PROJECT = ProjectFacts(
    id=7,
    name="Digits Of Pi",
    path="digits",
    path_with_namespace="Root/sub/digits",
    namespace_id=3,
    default_branch="main",
    web_url="http://localhost:10080/Root/sub/digits",
)
COMMIT = CommitFacts(
    sha="0123456789abcdef0123456789abcdef01234567",
    ref="Feature/New_Thing",
    message="Title\n\nBody of it\n",
    author="Ada <ada@example.com>",
    committed_at=datetime(2024, 2, 29, 12, 30, tzinfo=UTC),
)
PIPELINE = PipelineFacts(
    iid=4, source="push", created_at=datetime(2024, 3, 1, tzinfo=UTC), id=99, name="Nightly"
)
USER = UserFacts(1, "root", "Administrator", "admin@example.com")


def test_what_exists_before_any_job():
    values = as_mapping(pipeline_variables(SERVER, PROJECT, COMMIT, PIPELINE, USER))
    assert (
        values.items()
        >= {
            "CI": "true",
            "GITLAB_CI": "true",
            "CI_SERVER_URL": "http://localhost:10080",
            "CI_SERVER_HOST": "localhost",
            "CI_SERVER_PORT": "10080",
            "CI_SERVER_FQDN": "localhost:10080",
            "CI_SERVER_PROTOCOL": "http",
            "CI_SERVER_VERSION": "17.5.1",
            "CI_SERVER_VERSION_MAJOR": "17",
            "CI_SERVER_VERSION_MINOR": "5",
            "CI_SERVER_VERSION_PATCH": "1",
            "CI_API_V4_URL": "http://localhost:10080/api/v4",
            "CI_PROJECT_ID": "7",
            "CI_PROJECT_NAME": "digits",
            "CI_PROJECT_TITLE": "Digits Of Pi",
            "CI_PROJECT_PATH": "Root/sub/digits",
            "CI_PROJECT_PATH_SLUG": "root-sub-digits",
            "CI_PROJECT_NAMESPACE": "Root/sub",
            "CI_PROJECT_ROOT_NAMESPACE": "Root",
            "CI_PROJECT_URL": "http://localhost:10080/Root/sub/digits",
            "CI_DEFAULT_BRANCH": "main",
            "CI_CONFIG_PATH": ".gitlab-ci.yml",
            "CI_COMMIT_SHA": COMMIT.sha,
            "CI_COMMIT_SHORT_SHA": "01234567",
            "CI_COMMIT_BEFORE_SHA": "0" * 40,
            "CI_COMMIT_REF_NAME": "Feature/New_Thing",
            "CI_COMMIT_REF_SLUG": "feature-new-thing",
            "CI_COMMIT_BRANCH": "Feature/New_Thing",
            "CI_COMMIT_TITLE": "Title",
            "CI_COMMIT_DESCRIPTION": "Body of it\n",
            "CI_COMMIT_MESSAGE": "Title\n\nBody of it\n",
            "CI_COMMIT_REF_PROTECTED": "false",
            "CI_COMMIT_TIMESTAMP": "2024-02-29T12:30:00Z",
            "CI_COMMIT_AUTHOR": "Ada <ada@example.com>",
            "CI_PIPELINE_IID": "4",
            "CI_PIPELINE_SOURCE": "push",
            "CI_PIPELINE_CREATED_AT": "2024-03-01T00:00:00Z",
            "CI_PIPELINE_NAME": "Nightly",
            "GITLAB_USER_LOGIN": "root",
            "GITLAB_USER_NAME": "Administrator",
        }.items()
    )
    job_only = {
        "CI_COMMIT_TAG",
        "CI_PIPELINE_ID",
        "CI_PIPELINE_URL",
        "CI_JOB_ID",
        "CI_JOB_TOKEN",
        "CI_JOB_NAME",
    }
    assert not job_only & values.keys()


def test_a_tag_is_no_branch():
    commit = CommitFacts(sha="a" * 40, ref="v1.0", is_tag=True, tag_message="First", is_protected=True)
    values = as_mapping(pipeline_variables(SERVER, PROJECT, commit, PIPELINE))
    assert (values["CI_COMMIT_TAG"], values["CI_COMMIT_TAG_MESSAGE"]) == ("v1.0", "First")
    assert values["CI_COMMIT_REF_PROTECTED"] == "true"
    assert "CI_COMMIT_BRANCH" not in values and "GITLAB_USER_ID" not in values


def test_a_long_title_is_part_of_the_description():
    commit = CommitFacts(sha="a" * 40, ref="main", message="x" * 100 + "\n\nbody")
    values = as_mapping(pipeline_variables(SERVER, PROJECT, commit, PIPELINE))
    assert values["CI_COMMIT_DESCRIPTION"] == commit.message


def test_what_is_known_of_a_job_before_it_is_created():
    values = as_mapping(
        seed_variables(
            "deploy: [eu, 1]",
            "deploy",
            when=When.MANUAL,
            parallel_index=2,
            parallel_total=4,
            environment=Environment("review/Main", url="https://x", action="prepare"),
        )
    )
    assert values == {
        "CI_JOB_NAME": "deploy: [eu, 1]",
        "CI_JOB_NAME_SLUG": "deploy---eu--1",
        "CI_JOB_GROUP_NAME": "deploy",
        "CI_JOB_STAGE": "deploy",
        "CI_JOB_MANUAL": "true",
        "CI_NODE_INDEX": "2",
        "CI_NODE_TOTAL": "4",
        "CI_ENVIRONMENT_NAME": "review/Main",
        "CI_ENVIRONMENT_SLUG": environment_slug("review/Main"),
        "CI_ENVIRONMENT_ACTION": "prepare",
        "CI_ENVIRONMENT_TIER": "development",
        "CI_ENVIRONMENT_URL": "https://x",
    }


def test_a_job_that_is_not_multiplied_has_no_index():
    values = as_mapping(seed_variables("a", "test"))
    assert values["CI_NODE_TOTAL"] == "1"
    assert "CI_NODE_INDEX" not in values and "CI_JOB_MANUAL" not in values


def test_what_exists_only_in_the_job():
    job = JobFacts(
        id=5,
        name="train",
        stage="test",
        token="glcbt-secret",
        image="python:3.11",
        timeout_s=3_600,
        started_at=datetime(2024, 3, 1, tzinfo=UTC),
    )
    variables = job_variables(SERVER, PROJECT, PIPELINE, job, RunnerFacts(2, "bundled", ("gpu", "a100")))
    values = as_mapping(variables)
    assert (
        values.items()
        >= {
            "CI_PIPELINE_ID": "99",
            "CI_PIPELINE_URL": "http://localhost:10080/Root/sub/digits/-/pipelines/99",
            "CI_JOB_ID": "5",
            "CI_JOB_URL": "http://localhost:10080/Root/sub/digits/-/jobs/5",
            "CI_JOB_TOKEN": "glcbt-secret",
            "CI_JOB_STARTED_AT": "2024-03-01T00:00:00Z",
            "CI_JOB_IMAGE": "python:3.11",
            "CI_JOB_TIMEOUT": "3600",
            "CI_REPOSITORY_URL": "http://gitlab-ci-token:glcbt-secret@localhost:10080/Root/sub/digits.git",
            "CI_RUNNER_ID": "2",
            "CI_RUNNER_TAGS": '["gpu", "a100"]',
            "CI_JOB_NAME": "train",
        }.items()
    )
    secrets = {variable.key: variable for variable in variables if "glcbt-secret" in variable.value}
    assert set(secrets) == {"CI_JOB_TOKEN", "CI_REPOSITORY_URL"}
    assert not any(variable.public for variable in secrets.values())
    assert secrets["CI_JOB_TOKEN"].masked


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Feature/A_b", "feature-a-b"),
        ("--x--", "x"),
        ("a" * 70, "a" * 63),
        ("a" * 62 + "-b", "a" * 62),
        ("ünï", "n"),
    ],
)
def test_slugs(text, expected):
    assert slug(text) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rspec 1/3", "rspec"),
        ("rspec: [a, b]", "rspec"),
        ("rspec", "rspec"),
        ("a 1/2 b", "a 1/2 b"),
        ("b 1:2", "b"),
    ],
)
def test_names_of_groups(name, expected):
    assert group_name(name) == expected


def test_slugs_of_environments_are_short_and_unique():
    assert environment_slug("production") == "production"
    assert environment_slug("review/main").startswith("review-main-")
    assert environment_slug("review/main") != environment_slug("review-Main")
    assert environment_slug("1st").startswith("env-1st-")
    assert all(len(environment_slug("x" * length)) <= 24 for length in range(1, 60))


@pytest.mark.parametrize(
    ("name", "tier"),
    [
        ("production", "production"),
        ("review/x", "development"),
        ("QA-2", "testing"),
        ("stg", "staging"),
        ("x", "other"),
    ],
)
def test_tiers_are_guessed_from_names(name, tier):
    assert environment_tier(name) == tier
