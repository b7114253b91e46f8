"""Webhooks: of projects and of the instance, what is sent to them, and how it gets there."""
