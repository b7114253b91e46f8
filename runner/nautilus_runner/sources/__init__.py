"""Getting a job's sources: mirrors that only the runner touches, and a fresh checkout from them for each job."""
