"""python -m worker: load everything, then take RunPod jobs.

The SDK's own arguments work: --test_input JSON, --rp_serve_api, --rp_api_port and the rest.
"""

from __future__ import annotations

import sys

from worker.errors import SetupError
from worker.handler import make_handler
from worker.observe import log, set_up_logging
from worker.pipeline import Parts
from worker.settings import load_settings


def main() -> int:
    """Serve until the platform stops the worker; 1 when it is not complete."""
    set_up_logging("INFO")
    try:
        settings = load_settings()
        set_up_logging(settings.log_level)
        parts = Parts.load(settings)
    except SetupError as error:
        log.error("%s: %s", error.code, error.message)
        return 1
    import runpod  # noqa: PLC0415 - takes seconds; an incomplete worker should say so before

    runpod.serverless.start({"handler": make_handler(parts)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
