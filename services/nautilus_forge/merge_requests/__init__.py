"""Merge requests: a branch that asks to become part of another, their comments, and merging them."""
