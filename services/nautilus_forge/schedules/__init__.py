"""Pipelines at certain times: schedules, their variables, and the clock that makes their pipelines."""
