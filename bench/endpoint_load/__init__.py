"""The load test: many jobs on workers that are killed, beside a bucket that fails."""
