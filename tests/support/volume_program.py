"""`python -m volume` with pins and lease times of a test, and with another module than the worker.

    python -m tests.support.volume_program PINS HEARTBEAT TAKEOVER MODULE REHEARSAL ARGUMENTS...

REHEARSAL is the module that is recorded for the start pack, or - for no pack. All else is as
volume/__main__.py has it, down to the stops that are heard from the first line on.
"""

from __future__ import annotations

from volume.stops import hear_stops, unwind_at_stops

if __name__ == "__main__":  # before the imports below
    hear_stops()

import sys
from pathlib import Path

from volume.__main__ import main
from volume.lease import Timing

if __name__ == "__main__":
    pins, heartbeat, takeover, module, rehearsal, *arguments = sys.argv[1:]
    unwind_at_stops()
    timing = Timing(heartbeat=float(heartbeat), takeover=float(takeover))
    recorded = None if rehearsal == "-" else rehearsal
    sys.exit(main(arguments, pins=Path(pins), timing=timing, module=module, rehearsal=recorded))
