"""Ways to run a job: as processes of this machine, in containers, or (for tests) not at all."""
