"""The job's log: masked, kept in a file, sent to the server."""
