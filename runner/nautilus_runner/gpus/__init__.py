"""This machine's GPUs: what jobs may ask for, who has which, how they do, and that they work."""
