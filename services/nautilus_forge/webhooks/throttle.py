"""Tests and resent events: five a minute for each project and user.

Source: gitlabhq lib/gitlab/application_rate_limiter.rb (`web_hook_test`, `web_hook_event_resend`).
"""

from __future__ import annotations

import time
from collections import defaultdict, deque

from nautilus_forge.errors import TooManyRequests

_MOST = 5
_WITHIN_S = 60.0


class Throttle:
    """Kept in this process's memory alone."""

    def __init__(self) -> None:
        self._at: dict[tuple[int, int], deque[float]] = defaultdict(deque)

    def require(self, project_id: int, user_id: int) -> None:
        """Counts one more. Raises `TooManyRequests`."""
        now = time.monotonic()
        for key in [key for key, times in self._at.items() if times[-1] <= now - _WITHIN_S]:
            del self._at[key]
        times = self._at[project_id, user_id]
        while times and times[0] <= now - _WITHIN_S:
            times.popleft()
        if len(times) >= _MOST:
            message = {"error": "This endpoint has been requested too many times. Try again later."}
            raise TooManyRequests(int(times[0] + _WITHIN_S - now) + 1, message)
        times.append(now)
