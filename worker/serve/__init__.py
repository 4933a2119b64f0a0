"""RunPod's side of the worker: its start, each job's way in and out, and its end."""
