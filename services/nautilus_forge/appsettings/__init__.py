"""Application settings: the instance-wide switches that administrators change."""
