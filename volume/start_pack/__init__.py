"""The start pack: what a start reads of the environment, in few files that are read once.

docs/VOLUME.md says what is in it, why, and how a start goes.
"""
