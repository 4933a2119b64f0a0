"""The network volume: what is on it and how it got there. Standard library only."""
