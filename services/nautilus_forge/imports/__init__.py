"""Repositories that are filled from elsewhere beside the requests: imports from a Git URL, and forks."""
