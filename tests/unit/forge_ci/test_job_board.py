"""Which waiting runner a new job wakes."""

from __future__ import annotations

from typing import Any

import pytest

from nautilus_forge.jobs.board import JobBoard, Waiter, Wants
from nautilus_forge.jobs.wakeups import JobChanged, Queued, RunnerChanged, _decode, _encode


def queued(*tags: str, project: int = 1, protected: bool = False) -> Queued:
    return Queued(1, project, protected, frozenset(tags))


@pytest.mark.parametrize(
    ("wants", "job", "is_taken"),
    [
        ({}, queued(), True),
        ({"run_untagged": False}, queued(), False),
        ({"tags": frozenset({"gpu"})}, queued("gpu"), True),
        ({"tags": frozenset({"gpu"})}, queued("gpu", "a100"), False),
        ({}, queued("gpu"), False),
        ({"only_protected": True}, queued(), False),
        ({"only_protected": True}, queued(protected=True), True),
        ({"project_ids": frozenset({2})}, queued(), False),
        ({"project_ids": frozenset({1})}, queued(), True),
        ({"is_paused": True}, queued(), False),
        ({}, Queued(1, 1, False, None), True),
    ],
)
def test_what_a_runner_takes(wants: dict[str, Any], job: Queued, is_taken: bool) -> None:
    assert Wants(1, **wants).takes(job) is is_taken


async def test_one_job_wakes_one_runner_the_longest_waiting_first() -> None:
    board = JobBoard()
    waiters = [Waiter(Wants(n)) for n in range(3)]
    for waiter in waiters:
        board.join(waiter)
    assert board.offer(queued())
    assert [w.is_offered for w in waiters] == [True, False, False]
    assert board.offer(queued())
    assert [w.is_offered for w in waiters] == [True, True, False]


async def test_a_job_that_nobody_takes_wakes_nobody() -> None:
    board = JobBoard()
    waiter = Waiter(Wants(1))
    board.join(waiter)
    assert not board.offer(queued("gpu"))
    assert not waiter.woken.done()


async def test_the_queues_value_changes_with_each_job_and_each_boot() -> None:
    board = JobBoard()
    first = board.last_update
    board.offer(queued())
    assert board.last_update != first
    assert JobBoard().last_update != first


async def test_a_runner_that_was_edited_is_sent_away_to_ask_anew() -> None:
    board = JobBoard()
    mine, other = Waiter(Wants(1)), Waiter(Wants(2))
    board.join(mine)
    board.join(other)
    board.wake_runner(1)
    assert (mine.woken.done(), mine.is_offered, other.woken.done()) == (True, False, False)


@pytest.mark.parametrize(
    "news", [queued("gpu", "a"), Queued(5, 6, True, frozenset()), JobChanged(3), RunnerChanged(4)]
)
def test_news_arrives_as_it_was_sent(news: Any) -> None:
    assert _decode(_encode(news)) == news


def test_too_many_tags_are_not_told() -> None:
    news = queued(*(f"{n:0>250}" for n in range(50)))
    encoded = _encode(news)
    assert len(encoded.encode()) < 8000
    assert _decode(encoded) == Queued(1, 1, False, None)


def test_news_of_a_later_version_is_nothing() -> None:
    assert _decode('["meteor", 1]') is None
