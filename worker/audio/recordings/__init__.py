"""Recordings of strangers: what a file holds, whatever wrote it, within bounds.

`reading` is for others. It asks `by_libsndfile` and `by_ffmpeg`, which both give what they decode
to a `Take`, and `channels` for the channel to be heard. What a file says of its own length is a
promise: all that is there is decoded, and judged afterwards. `wav_header` mends the lengths of WAV,
`mpeg_header` knows what an MP3's encoder counted, `byte_promises` which files have fewer bytes than
they say. `allowed` lists what is read, `kinds` names the rest.
"""
