"""python -m tests.platform.start.imported FILE [ARGUMENTS]: a worker that tells what it imported.

At its end FILE has the name of each module, one a line.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    told = Path(sys.argv.pop(1))
    try:
        runpy.run_module("worker", run_name="__main__", alter_sys=True)
    finally:
        told.write_text("\n".join(sys.modules))
