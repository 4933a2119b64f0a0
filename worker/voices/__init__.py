"""Which voice a job speaks with, and where voices are kept."""
