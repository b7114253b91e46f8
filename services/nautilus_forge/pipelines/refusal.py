"""Why there is no pipeline."""

from __future__ import annotations


class Refused(Exception):
    """No pipeline was made; the message is GitLab's, one reason a line."""
