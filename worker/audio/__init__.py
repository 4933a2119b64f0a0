"""Audio between the stages: `waveform` works on samples in memory, `files` writes them.

`recordings` reads what strangers send. `spool` keeps what a job has spoken until it is written. Of
audio that leaves as it is made, `live` has the stages and `encoders` the formats.
"""
