"""`make load-http`: what listeners get from one worker over HTTP, few and many of them.

`clients.py` are listeners, `worker.py` the process that they ask and what it holds, `__main__.py`
the rounds and the table.
"""
