"""What jobs report of themselves: tests (junit) and coverage."""
