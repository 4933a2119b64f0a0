"""python -m worker: load everything, then take RunPod jobs, or HTTP requests with --http.

The SDK's own arguments work: --test_input JSON, --rp_serve_api, --rp_api_port and the rest.
"""

from __future__ import annotations

from volume.start_clock import now
from volume.start_pack.runtime import begin, open_filler
from volume.stops import hear_stops

if __name__ == "__main__":  # before the imports below, which take seconds on a volume
    FIRST_LINE = now()
    hear_stops()
    start = begin(filler=open_filler())

import sys

from worker.serve.shutdown import end_forks_with_this_process
from worker.serve.start_stages import StartStages
from worker.serve.startup import main

if __name__ == "__main__":
    end_forks_with_this_process()
    sys.exit(main(StartStages(FIRST_LINE), start))
