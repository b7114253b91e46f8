"""Images that a job has built from a Dockerfile of its repository, before its script and without the socket."""
