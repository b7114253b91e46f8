"""Trigger tokens, and the pipelines that they make."""
