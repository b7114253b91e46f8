"""The embedded forge: a GitLab-compatible server for Git, users, projects and CI, with its own database."""

VERSION = "17.11.0"
"""The GitLab whose contract is served (`GET /version` must have three dot-separated parts)."""

API_PREFIX = "/api/v4"
