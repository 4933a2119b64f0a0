"""The file that the RunPod Hub looks for. It starts what the image's own entry point starts."""

import runpy
import sys

if __name__ == "__main__":
    sys.argv[1:1] = ["run"]
    runpy.run_module("volume", run_name="__main__", alter_sys=True)
