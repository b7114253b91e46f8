"""States follow GitLab's; every end has a sentence."""

from __future__ import annotations

import itertools

import pytest

from nautilus.core.reasons import exit_code_in, failure_sentence, runner_sentence, runner_words
from nautilus.core.states import (
    FINAL_STATES,
    OF_JOB,
    TRANSITIONS,
    ExperimentState,
    JobState,
    check_transition,
    state_of_job,
)
from nautilus.errors import InvalidTransition


def test_every_state_is_in_the_table_and_every_job_state_is_understood() -> None:
    assert TRANSITIONS.keys() == set(ExperimentState)
    assert OF_JOB.keys() == set(JobState)


@pytest.mark.parametrize("state", sorted(FINAL_STATES))
def test_nothing_follows_an_end(state: ExperimentState) -> None:
    for job, has_runner in itertools.product(JobState, [True, False]):
        assert state_of_job(state, job, has_runner=has_runner) is state
    for other in set(ExperimentState) - {state}:
        with pytest.raises(InvalidTransition):
            check_transition(state, other)


def test_whatever_gitlab_says_leads_only_along_the_table() -> None:
    for before, job, has_runner in itertools.product(ExperimentState, JobState, [True, False]):
        check_transition(before, state_of_job(before, job, has_runner=has_runner))


def test_a_late_running_does_not_undo_a_cancellation() -> None:
    assert state_of_job(ExperimentState.CANCELING, JobState.RUNNING, has_runner=True) == "canceling"
    assert state_of_job(ExperimentState.CANCELING, JobState.SUCCESS, has_runner=True) == "succeeded"


def test_a_job_that_a_lost_runner_gave_back_waits_again() -> None:
    assert state_of_job(ExperimentState.RUNNING, JobState.PENDING, has_runner=False) == "queued"


def test_a_pending_job_with_a_runner_is_starting() -> None:
    assert state_of_job(ExperimentState.QUEUED, JobState.PENDING, has_runner=True) == "starting"


@pytest.mark.parametrize(
    ("reason", "exit_code", "words"),
    [
        ("script_failure", 3, "the command ended with exit code 3"),
        ("script_failure", 137, "the command ended with exit code 137 (killed, perhaps for memory)"),
        ("script_failure", None, "the command failed"),
        (None, None, "the job failed; GitLab gives no reason"),
        ("job_execution_timeout", 1, "it ran longer than its time limit"),
        ("runner_system_failure", None, "the runner failed, not the command (runner system failure)"),
        ("some_new_reason", None, "the job failed: some new reason"),
    ],
)
def test_a_failure_has_a_sentence(reason: str | None, exit_code: int | None, words: str) -> None:
    assert failure_sentence(reason, exit_code) == words


@pytest.mark.parametrize(
    ("tail", "code"),
    [
        (b"x\n\x1b[31;1mERROR: Job failed: exit code 2\x1b[0;m\n", 2),
        (b"ERROR: Job failed: exit status 127", 127),
        (b"Job failed: exit code 1 ... Job failed: exit code 9", 9),
        (b"ERROR: Job failed (system failure): prepare", None),
        (b"", None),
    ],
)
def test_the_exit_code_is_in_the_runners_last_words(tail: bytes, code: int | None) -> None:
    assert exit_code_in(tail) == code


def test_why_it_waits_for_a_runner() -> None:
    assert "no runner is registered" in runner_sentence(0, 0, 0)
    assert runner_sentence(0, 1, 0) == "the runner is not online"
    assert runner_sentence(0, 3, 0) == "none of the 3 runners is online"
    assert runner_sentence(1, 1, 0) == "waiting for a runner"
    assert runner_sentence(1, 1, 2) == "waiting for a runner: 2 runs are before it"


def test_a_queue_without_a_live_runner_says_so() -> None:
    assert runner_sentence(0, 0, 0, ("gpuu",)).startswith("no runner has the tag gpuu: is it spelt so?")
    assert runner_sentence(0, 2, 0, ("a", "b")) == "none of the runners with the tags a, b is online"
    assert runner_sentence(1, 2, 1, ("a",)) == "waiting for a runner: 1 run is before it"


def test_the_runners_own_words_are_said_where_they_say_more() -> None:
    peak = "peak 64 MiB of the 64 MiB that the job may use"
    assert runner_words("script_failure", "out_of_memory", peak) == f"out of memory: {peak}"
    assert runner_words("script_failure", "user", "exit code 3") is None
    killed = "exit code 137 (killed with SIGKILL, by no limit of this runner)"
    assert runner_words("script_failure", "user", killed) == f"the command ended with {killed}"
