"""Makes the files of volume/locks/: `make lock`. The worker's image needs none of this."""
