"""What a job leaves for its next attempt: NAUTILUS_CHECKPOINT_DIR, kept on this machine and at Nautilus."""
