"""What strangers may send, and what must come of it: one clear error, and nothing else."""
