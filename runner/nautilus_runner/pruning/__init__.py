"""Keeping the disk free: what this runner made and nobody uses goes, and nothing else ever does."""
