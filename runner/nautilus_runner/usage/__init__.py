"""What running jobs use: read every few seconds, told at once and as a sum at the end, and kept within limits."""
