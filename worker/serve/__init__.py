"""RunPod's side of the worker: start, jobs in and answers out, progress, and shutdown."""
