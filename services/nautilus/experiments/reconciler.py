"""The one task that keeps experiments and GitLab together: it launches, follows, ends and cleans up.

It polls, since GitLab's hooks may not reach us: every half second while something runs or has just changed,
slower when all that is open only waits, and at once when somebody submits, cancels, or a hook hints. All it
knows is in the database, so that it goes on after a restart where it was; while GitLab or the database is
away it waits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterable, Sequence

from pydantic import SecretStr

from nautilus.core.identity import Credential, CredentialKind
from nautilus.core.reasons import WAITS_FOR_RUNNER
from nautilus.core.states import ACTIVE_STATES, OF_JOB, ExperimentState, JobState
from nautilus.db.engine import Database
from nautilus.db.models.experiment import Experiment
from nautilus.errors import GitLabNotFound, NautilusError, Unavailable
from nautilus.experiments.follow import Follower
from nautilus.experiments.launch import Launcher
from nautilus.experiments.queries import open_experiments
from nautilus.experiments.waiting import WaitingReasons
from nautilus.gitlab.port import GitLab, GitLabAccount, Job

logger = logging.getLogger(__name__)

FAST_S, SLOW_S, IDLE_S = 0.5, 2.0, 15.0
FIRST_RETRY_S = 0.2
LIVELY_FOR_S = 60.0
"""How long after the last change polling stays fast."""
AT_A_TIME = 4
"""Experiments that are brought forward at the same time."""
OPEN_LIMIT = 1000
_CANCELABLE = frozenset({ExperimentState.QUEUED, ExperimentState.STARTING, ExperimentState.RUNNING})
_UNDER_WAY = frozenset(ACTIVE_STATES - {ExperimentState.QUEUED})
_GONE_AFTER = 3
"""How many times in a row GitLab must know nothing of a job before we believe it."""


class Reconciler:
    """One per process. `service_token` reads the service's own token at GitLab; it may not be there yet."""

    def __init__(
        self,
        database: Database,
        gitlab: GitLab,
        launcher: Launcher,
        follower: Follower,
        *,
        service_token: Callable[[], SecretStr | None],
    ) -> None:
        self._database = database
        self._gitlab = gitlab
        self._launcher = launcher
        self._follower = follower
        self._service_token = service_token
        self._waiting = WaitingReasons()
        self._woken = asyncio.Event()
        self._tokens: dict[int, Credential] = {}
        self._missing: Counter[int] = Counter()
        self._seen: dict[int, tuple[str, str | None]] = {}
        self._changed_at = 0.0
        self._reported: frozenset[str] = frozenset()

    def notice(self, experiment_ids: Sequence[int], credential: Credential) -> None:
        """These have something to do; until they are launched they act with this token of their user's."""
        for number in experiment_ids:
            self._tokens[number] = credential
        self.wake()

    def wake(self) -> None:
        """Something may have changed: looks at once."""
        self._changed_at = time.monotonic()
        self._woken.set()

    async def run(self) -> None:
        """For ever; ends by cancellation."""
        trouble, pause_s = "", 0.0
        while True:
            self._woken.clear()
            try:
                pause_s = self._pause_s(await self.step())
                trouble = ""
            except NautilusError as error:
                if str(error) != trouble:
                    logger.warning("experiments are not followed just now: %s", error)
                pause_s = min(2 * pause_s, SLOW_S) if trouble else FIRST_RETRY_S
                trouble = str(error)
            except Exception:
                logger.exception("a round of following experiments failed")
                pause_s = SLOW_S
            await self._sleep(pause_s)

    async def step(self) -> int:
        """One round over all that is open; how many that were. Raises Unavailable where nothing could be
        done."""
        async with self._database.read() as session:
            found = await open_experiments(session, OPEN_LIMIT)
        self._note_changes(found)
        if not found:
            return 0
        service = self._service()
        if service is None:
            raise Unavailable("the service's token at GitLab is not there yet")
        account = self._gitlab.acting(service)
        jobs = await self._active_jobs(account, found)
        reasons = await self._waiting.refresh(account, found)
        limit = asyncio.Semaphore(AT_A_TIME)
        results = await asyncio.gather(
            *(self._within(limit, self._advance(one, service, account, jobs, reasons)) for one in found),
            return_exceptions=True,
        )
        self._report(found, results)
        return len(found)

    async def _advance(
        self,
        experiment: Experiment,
        service: Credential,
        account: GitLabAccount,
        jobs: dict[int, Job],
        reasons: dict[int, str],
    ) -> None:
        """As far as it goes now: launch, pipeline, state, clean-up."""
        if ExperimentState(experiment.state).is_final:
            await self._follower.close(account, experiment.id)
            self._forget(experiment.id)
            return
        if experiment.run_sha is None and not await self._launch(experiment, service):
            return
        if experiment.job_id is None and not await self._find(account, experiment):
            return
        job = await self._job(account, experiment, jobs)
        if job is None or await self._is_moving(account, experiment, job):
            return
        if job.state in (JobState.FAILED, JobState.CANCELED):
            job = await self._follower.newest_attempt(account, experiment, job)
        reason = reasons.get(experiment.id, WAITS_FOR_RUNNER)
        if await self._follower.follow_job(account, experiment, job, reason):
            await self._follower.close(account, experiment.id)
            self._forget(experiment.id)

    async def _is_moving(self, account: GitLabAccount, experiment: Experiment, job: Job) -> bool:
        """Whether its job ends only for the next attempt to go on; that is made once the job has ended."""
        if experiment.preempt_requested_at is None or experiment.cancel_requested_at is not None:
            return False
        if job.state is JobState.CANCELED:
            await self._follower.take_over(experiment, await account.retry_job(job.project_id, job.id))
            self.wake()
        return job.state in (JobState.RUNNING, JobState.CANCELING, JobState.CANCELED)

    async def _job(self, account: GitLabAccount, experiment: Experiment, jobs: dict[int, Job]) -> Job | None:
        """The experiment's job as it is now; None where GitLab has it no more. Cancels it where that was
        asked for."""
        assert experiment.job_id is not None and experiment.pipeline_id is not None
        try:
            job = jobs.get(experiment.job_id) or await account.job(experiment.project_id, experiment.job_id)
            if experiment.cancel_requested_at is not None and OF_JOB[job.state] in _CANCELABLE:
                await account.cancel_pipeline(experiment.project_id, experiment.pipeline_id)
                job = await account.job(experiment.project_id, experiment.job_id)
        except GitLabNotFound:
            self._missing[experiment.id] += 1
            if self._missing[experiment.id] >= _GONE_AFTER:
                await self._follower.end(experiment, "its job is gone from GitLab")
            return None
        self._missing.pop(experiment.id, None)
        return job

    async def _launch(self, experiment: Experiment, service: Credential) -> bool:
        sudo = Credential(service.kind, service.token, sudo=str(experiment.user_id))
        is_there = await self._launcher.launch(experiment.id, self._tokens.get(experiment.id), sudo)
        self._tokens.pop(experiment.id, None)
        self.wake()
        if is_there:
            async with self._database.read() as session:
                fresh = await session.get_one(Experiment, experiment.id)
            experiment.run_sha, experiment.launched_at = fresh.run_sha, fresh.launched_at
            experiment.state, experiment.cancel_requested_at = fresh.state, fresh.cancel_requested_at
        return is_there

    async def _find(self, account: GitLabAccount, experiment: Experiment) -> bool:
        is_there = await self._follower.find_pipeline(account, experiment)
        if is_there:
            self.wake()
        return is_there

    async def _active_jobs(self, account: GitLabAccount, found: Iterable[Experiment]) -> dict[int, Job]:
        """The jobs of projects with several experiments at GitLab, by one request per project."""
        counts = Counter(e.project_id for e in found if e.job_id is not None and e.finished_at is None)
        jobs: dict[int, Job] = {}
        for project_id, count in counts.items():
            if count > 2:
                try:
                    jobs |= {job.id: job for job in await account.active_jobs(project_id)}
                except GitLabNotFound:
                    continue
        return jobs

    async def _within(self, limit: asyncio.Semaphore, work: Coroutine[None, None, None]) -> None:
        async with limit:
            await work

    def _report(self, found: Sequence[Experiment], results: Sequence[BaseException | None]) -> None:
        """Logs each failure when it is new; raises Unavailable where GitLab or the database is away."""
        failures: defaultdict[str, list[int]] = defaultdict(list)
        unavailable: Unavailable | None = None
        for experiment, result in zip(found, results, strict=True):
            if isinstance(result, Unavailable):
                unavailable = result
            elif isinstance(result, Exception):
                failures[f"{type(result).__name__}: {result}"].append(experiment.id)
        for message in failures.keys() - self._reported:
            logger.error("experiments %s: %s", failures[message][:10], message)
        self._reported = frozenset(failures)
        if unavailable is not None:
            raise unavailable

    def _note_changes(self, found: Sequence[Experiment]) -> None:
        seen = {e.id: (e.state, e.reason) for e in found}
        if seen != self._seen:
            self._seen, self._changed_at = seen, time.monotonic()
        if any(state in _UNDER_WAY for state, _ in seen.values()):
            self._changed_at = time.monotonic()

    def _pause_s(self, count: int) -> float:
        if count == 0:
            return IDLE_S
        return FAST_S if time.monotonic() - self._changed_at < LIVELY_FOR_S else SLOW_S

    def _forget(self, experiment_id: int) -> None:
        self._tokens.pop(experiment_id, None)
        self._missing.pop(experiment_id, None)

    def _service(self) -> Credential | None:
        token = self._service_token()
        return Credential(CredentialKind.PERSONAL, token) if token is not None else None

    async def _sleep(self, pause_s: float) -> None:
        try:
            await asyncio.wait_for(self._woken.wait(), pause_s)
        except TimeoutError:
            return
