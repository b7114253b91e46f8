"""One status of many: GitLab's spec/lib/gitlab/ci/status/composite_spec.rb as a table."""

from __future__ import annotations

import itertools

import pytest

from nautilus_forge.pipelines.statuses import COMPLETED, JOB_TRANSITIONS, Status, composite, may_become


def of(*statuses: str, lenient: tuple[str, ...] = (), dag: bool = False) -> str | None:
    """Composite status; those named in `lenient` may fail."""
    return composite(((Status(s), s in lenient) for s in statuses), dag=dag)


@pytest.mark.parametrize(
    ("statuses", "whole"),
    [
        ((), None),
        (("skipped",), "skipped"),
        (("skipped", "success"), "success"),
        (("created",), "created"),
        (("preparing", "created"), "preparing"),
        (("canceled", "success", "skipped"), "canceled"),
        (("pending", "created", "skipped"), "pending"),
        (("pending", "created", "skipped", "success"), "running"),
        (("success", "canceled"), "canceled"),
        (("failed", "success"), "failed"),
        (("failed", "canceled"), "failed"),
        (("failed", "running"), "running"),
        (("success", "pending"), "running"),
        (("created", "success"), "running"),
        (("failed", "created"), "running"),
        (("manual", "success"), "manual"),
        (("manual", "created"), "manual"),
        (("scheduled", "success"), "scheduled"),
        (("waiting_for_resource", "success"), "waiting_for_resource"),
        (("canceling", "success"), "canceling"),
        (("canceling", "running"), "running"),
        (("running", "manual"), "running"),
    ],
)
def test_one_status_of_many(statuses: tuple[str, ...], whole: str | None) -> None:
    assert of(*statuses) == whole


@pytest.mark.parametrize(
    ("statuses", "lenient", "whole"),
    [
        (("failed",), ("failed",), "success"),
        (("failed", "success"), ("failed",), "success"),
        (("canceled",), ("canceled",), "success"),
        (("manual",), ("manual",), "skipped"),
        (("manual", "success"), ("manual",), "success"),
        (("manual", "created"), ("manual",), "created"),
        (("failed", "created"), ("failed",), "created"),
        (("failed", "pending"), ("failed",), "pending"),
    ],
)
def test_what_may_fail_does_not_count(
    statuses: tuple[str, ...], lenient: tuple[str, ...], whole: str
) -> None:
    assert of(*statuses, lenient=lenient) == whole


@pytest.mark.parametrize(
    ("statuses", "lenient", "whole"),
    [
        (("success", "skipped"), (), "skipped"),
        (("success", "manual"), ("manual",), "skipped"),
        (("success", "created"), (), "pending"),
        (("success", "running"), (), "pending"),
        (("failed", "running"), (), "pending"),
        (("failed", "success"), (), "failed"),
        (("failed", "success"), ("failed",), "success"),
        (("success", "success"), (), "success"),
    ],
)
def test_needs_are_stricter(statuses: tuple[str, ...], lenient: tuple[str, ...], whole: str) -> None:
    assert of(*statuses, lenient=lenient, dag=True) == whole


def test_the_order_of_jobs_never_matters() -> None:
    for chosen in itertools.combinations(Status, 3):
        assert len({composite((s, False) for s in order) for order in itertools.permutations(chosen)}) == 1


def test_a_pipeline_is_over_exactly_when_all_its_jobs_are() -> None:
    for first, second in itertools.product(Status, repeat=2):
        whole = composite([(first, False), (second, False)])
        if first in COMPLETED and second in COMPLETED:
            assert whole in COMPLETED
        elif {first, second} & (set(Status) - COMPLETED - {Status.SKIPPED}):
            assert whole not in COMPLETED


def test_every_status_has_its_transitions_and_what_is_over_stays_over() -> None:
    assert set(JOB_TRANSITIONS) == set(Status)
    for status in COMPLETED - {Status.SKIPPED}:
        assert JOB_TRANSITIONS[status] == frozenset()
    assert not may_become(Status.CANCELING, Status.SUCCESS)
    assert may_become(Status.RUNNING, Status.PENDING)
