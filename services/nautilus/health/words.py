"""Words in the details of components that others look for."""

from __future__ import annotations

TAKES_NO_JOBS = "takes no jobs"
"""Of the bundled runner as long as it was told so, or has no room on its disk."""
