"""The reach of job tokens: who sets it, and how."""
