"""python -m worker: load everything, then take RunPod jobs.

The SDK's own arguments work: --test_input JSON, --rp_serve_api, --rp_api_port and the rest.
"""

from __future__ import annotations

import os
import sys

from volume.layout import Layout, LayoutError, locked_wheel
from worker.errors import SetupError
from worker.observe import log, set_up_logging
from worker.settings import Settings, load_settings


def main() -> int:
    """Serve until the platform stops the worker; 1 when it is not complete."""
    set_up_logging("INFO")
    try:
        settings = load_settings()
        set_up_logging(settings.log_level)
        # Asked here already: the imports below take seconds, and a bad start is paid for.
        Layout(settings.runpod_volume).model(settings.spark_model)
        _serve(settings)
    except (SetupError, LayoutError) as error:
        log.error("setup_failed: %s", error)
        return 1
    return 0


def _serve(settings: Settings) -> None:
    # The SDK reads this when it is imported. Its own default prints whole answers, and with them
    # signed URLs that anyone may open.
    quiet = {"WARNING": "WARN", "ERROR": "ERROR"}
    os.environ.setdefault("RUNPOD_LOG_LEVEL", quiet.get(settings.log_level, "INFO"))
    # Imported once it is known that they are needed.
    import runpod  # noqa: PLC0415

    from worker.handler import make_handler  # noqa: PLC0415
    from worker.parts import Parts  # noqa: PLC0415
    from worker.speech.fitness import check_flash_attention  # noqa: PLC0415

    @runpod.serverless.register_fitness_check  # type: ignore[untyped-decorator]  # the SDK has none
    def flash_attention() -> None:
        check_flash_attention(locked_wheel("flash-attn"))

    runpod.serverless.start({"handler": make_handler(Parts.load(settings))})


if __name__ == "__main__":
    sys.exit(main())
