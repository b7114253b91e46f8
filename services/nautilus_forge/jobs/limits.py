"""Bounds of the CI half; one place for all of them, changed by tests alone."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class CiLimits:
    """`_s` are seconds in the database's clock unless said otherwise."""

    lease_s: float = 30.0
    """A claimed job whose runner has neither PATCHed nor PUT for so long goes back to the queue. A stock
    gitlab-runner sends the first lines of its log within 3 s."""
    hold_s: float = 50.0
    """Longest time that a request for a job is held (this machine's clock), as GitLab's workhorse does."""
    backstop_s: float = 2.0
    """How often the queue is looked at for jobs whose notification was missed, while requests are held."""
    update_hold_s: float = 30.0
    """Longest time that a PUT `running` with `Prefer: wait` is held."""
    upkeep_every_s: float = 1.0
    presence_every_s: float = 2.0
    """How often contact of runners and jobs is written to the database."""
    log_bytes: int = 256 * MIB
    watched_interval_s: float = 1.0
    """Asked of a runner while somebody watches its log; `watched_fraction_s` of one that takes fractions."""
    watched_fraction_s: float = 0.25
    interval_s: float = 3.0
    """Asked of a stock runner while nobody watches. GitLab asks for 60; then a log that is opened stays old so long."""
    watched_for_s: float = 30.0
    """Somebody who has read a log counts as watching for so long."""
    trace_resets: int = 3
    """How often a runner is told that its log does not match before the log is taken as it is."""
    silence_s: float = 600.0
    """A running job without any write of its runner for so long has lost it."""
    silence_plain_s: float = 3600.0
    """The same for runners that do not touch the server while the job is silent."""
    timeout_grace_s: float = 300.0
    """How far past its timeout a job may be before the server ends it."""
    stuck_s: float = 3600.0
    """A pending job that no registered runner may take fails after so long."""
    stuck_offline_s: float = 86400.0
    """A pending job fails after so long when no runner that may take it has been in contact since."""
    online_s: float = 7200.0
    """A runner counts as online for so long after its last contact (GitLab: 2 hours)."""
    stale_s: float = 604800.0
