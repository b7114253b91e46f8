"""What the gateway and git's hooks ask: never reachable from outside (the gateway refuses `/internal/`)."""
