"""Stand-ins for what a runner talks to: a protocol server, a git host, a network that loses things, NVML."""
