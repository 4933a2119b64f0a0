"""The service: a job in, speech out."""
