"""What GitLab may tell us by itself; always only a hint."""
