"""Looking into a job's project folder while it runs: list, read, wait for more, write; and who may ask for it."""
