"""The storage of results and voices: an S3 bucket or a local folder, behind one interface.

Keys are checked by `keys.checked_key` wherever they come in. All calls block.
"""
