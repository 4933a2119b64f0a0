"""CUDA C for GPUs, compiled where it runs: `open` is the door, `driver` what launches it."""
