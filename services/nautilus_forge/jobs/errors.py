"""What can go wrong between a runner and its job, and with what people do to jobs.

    ForgeError
    ├── Forbidden
    │   ├── JobForbidden       the token is not this job's, or the job is over; `Job-Status` where it is known
    │   └── NotDoable          the job's status does not allow it ("Job is not retryable")
    └── BadRequest
        └── Unplayable         400 "Unplayable Job"

Source: GitLab lib/api/ci/helpers/runner.rb (`authenticate_job!`, `job_forbidden!`), lib/api/ci/jobs.rb.
"""

from __future__ import annotations

from nautilus_forge.errors import BadRequest, Forbidden


class JobForbidden(Forbidden):
    """Tells a runner to stop: 403 never means "later". `job_status`: for the header `Job-Status`."""

    def __init__(self, reason: str | None = None, job_status: str | None = None) -> None:
        super().__init__(reason)
        if job_status is not None:
            self.headers = {"Job-Status": job_status}


class NotDoable(Forbidden):
    pass


class Unplayable(BadRequest):
    def __init__(self) -> None:
        super().__init__("Unplayable Job")
