"""The inputs of jobs: named by a job, fetched once for this machine, kept by content, shared read-only."""
