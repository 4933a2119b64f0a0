"""`make gpu-check`: what only a GPU can show, in minutes: figures, and whether all is correct.

Everything that it works on is random and made on the spot. It needs torch and what the model needs
(requirements/gpu-check.txt), but not boto3, and transformers only for upstream beside ours: so it
runs where only torch is. `__main__.py` has the order, `marks.py` what must hold, `inside.py` all
that it knows of the engine's insides, `figures.py` the table of all sides.
"""
