"""Environments, the deployments to them, and what ends them."""
