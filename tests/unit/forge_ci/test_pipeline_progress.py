"""What jobs become next."""

from __future__ import annotations

from nautilus_forge.ci.model import When
from nautilus_forge.pipelines.processing import JobState, advance, dependents
from nautilus_forge.pipelines.statuses import Status


def job(name: str, stage: int = 0, status: str = "created", **more: object) -> JobState:
    return JobState(id=hash(name), name=name, stage_idx=stage, status=Status(status), **more)  # type: ignore[arg-type]


def after(*jobs: JobState) -> dict[str, str]:
    """Status by name once the jobs have moved on."""
    changes = advance(jobs).changes
    return {j.name: changes.get(j.id, j.status).value for j in jobs}


def test_the_first_stage_starts() -> None:
    assert after(job("a"), job("b", 1)) == {"a": "pending", "b": "created"}


def test_the_next_stage_starts_when_the_last_is_done() -> None:
    assert after(job("a", status="success"), job("b", 1)) == {"a": "success", "b": "pending"}
    assert after(job("a", status="running"), job("b", 1))["b"] == "created"


def test_a_stage_that_was_skipped_does_not_stop_the_next() -> None:
    assert after(job("a", status="skipped"), job("b", 1))["b"] == "pending"


def test_a_failure_skips_all_that_follows_at_once() -> None:
    found = after(job("a", status="failed"), job("b", 1), job("c", 2), job("d", 3, when=When.ON_FAILURE))
    assert found == {"a": "failed", "b": "skipped", "c": "skipped", "d": "pending"}


def test_on_failure_without_failure_is_skipped() -> None:
    assert after(job("a", status="success"), job("b", 1, when=When.ON_FAILURE))["b"] == "skipped"


def test_always_runs_after_anything_but_a_cancel() -> None:
    for before, then in (("failed", "pending"), ("skipped", "pending"), ("canceled", "skipped")):
        assert after(job("a", status=before), job("b", 1, when=When.ALWAYS))["b"] == then


def test_manual_and_delayed_wait_unless_somebody_played_them() -> None:
    assert after(job("a", when=When.MANUAL)) == {"a": "manual"}
    assert after(job("a", when=When.DELAYED)) == {"a": "scheduled"}
    assert after(job("a", when=When.MANUAL, enqueue_now=True)) == {"a": "pending"}


def test_needs_look_at_the_needed_jobs_alone() -> None:
    slow, fast = job("slow", status="running"), job("fast", status="success")
    assert after(slow, fast, job("check", 1, needs=("fast",)))["check"] == "pending"
    assert after(slow, fast, job("check", 1, needs=("slow",)))["check"] == "created"
    assert after(slow, job("free", 1, needs=()))["free"] == "pending"


def test_a_needed_job_that_did_not_run_skips() -> None:
    assert after(job("a", status="skipped"), job("b", 1, needs=("a",)))["b"] == "skipped"
    assert after(job("a", status="manual", allow_failure=True), job("b", 1, needs=("a",)))["b"] == "skipped"


def test_needs_within_a_stage_are_followed_whatever_the_order() -> None:
    found = after(job("c", needs=("b",)), job("b", needs=("a",)), job("a", status="failed"))
    assert found == {"c": "skipped", "b": "skipped", "a": "failed"}


def test_the_pipelines_status_is_that_of_the_moved_jobs() -> None:
    assert advance([job("a")]).status is Status.PENDING
    assert advance([job("a", status="success"), job("b", 1)]).status is Status.RUNNING
    assert advance([job("a", status="failed"), job("b", 1)]).status is Status.FAILED
    assert advance([job("a", when=When.MANUAL, allow_failure=True)]).status is Status.SKIPPED
    assert advance([]).status is Status.SKIPPED


def test_a_thousand_jobs_are_no_trouble() -> None:
    jobs = [job(f"a{n}", status="success") for n in range(500)] + [job(f"b{n}", 1) for n in range(500)]
    assert len(advance(jobs).changes) == 500


def test_who_gets_another_chance_when_a_job_runs_again() -> None:
    jobs = [
        job("a", 0, "failed"),
        job("other", 0, "success"),
        job("later", 1, "skipped"),
        job("needs_a", 0, "skipped", needs=("a",)),
        job("needs_that", 0, "skipped", needs=("needs_a",)),
        job("apart", 0, "skipped", needs=("other",)),
    ]
    assert {j.name for j in dependents(jobs, ["a"])} == {"later", "needs_a", "needs_that"}
