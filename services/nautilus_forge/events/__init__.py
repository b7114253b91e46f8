"""The feed of events: who did what where, and when."""
