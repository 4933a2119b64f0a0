"""Continuous batching: the sequences that run at the same time, step by step."""
