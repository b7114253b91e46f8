"""The Nautilus runner: a GitLab runner protocol client that runs jobs as processes or in containers."""

__version__ = "0.1.0"
