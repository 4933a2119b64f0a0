"""Imports the libraries that the tests need, once, in the process that each trial is a fork of.

The project's own modules are forgotten again: a trial imports them from its own copy of the tree.
"""

import sys

import aiohttp  # noqa: F401
import boto3  # noqa: F401
import moto.server  # noqa: F401
import soundfile  # noqa: F401
import torch  # noqa: F401
import transformers  # noqa: F401

import tests.conftest  # noqa: F401
from scripts.mutants.mutant import OURS

for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
    if name not in (__name__, "scripts", "scripts.mutants"):
        del sys.modules[name]
