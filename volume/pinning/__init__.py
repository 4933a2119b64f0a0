"""Makes the files of volume/pins/: `make lock`. The worker's image needs none of this."""
