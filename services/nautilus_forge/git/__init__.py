"""Repositories on disk, and git's plumbing as child processes."""
