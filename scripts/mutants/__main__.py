"""python -m scripts.mutants [AREA[/NAME] ...]: try the mutants and print which ones no test sees.

Each is tried against the unit tests that import its module. A run that was ended goes on where it
was. Without a word all are tried, and the table goes into docs/ARCHITECTURE.md, what each was seen
by into docs/mutants.json. Ends with 1 where a mutant stays unseen for no stated reason.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time

from scripts.mutants.mutant import REPOSITORY, Mutant, MutantError, chosen, load
from scripts.mutants.nearest import nearest
from scripts.mutants.results import Result, missed, seen_by, table, write
from scripts.mutants.trial import Ledger, TrialError, Trials

LEDGER = REPOSITORY / ".cache" / "mutants" / "outcomes.jsonl"


def main() -> int:
    """Try them; give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("words", nargs="*", metavar="AREA[/NAME]", help="only those; none: all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="trials at once")
    parser.add_argument("--fresh", action="store_true", help="forget the outcomes so far")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if options.fresh:
        LEDGER.unlink(missing_ok=True)
    try:
        results = _try(options.words, options.jobs)
    except (MutantError, TrialError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the next run goes on from here\n")
        return 130
    if not options.words:
        write(results)
    print(table(results))
    unseen = missed(results)
    for result in unseen:
        mutant = result.mutant
        print(f"{mutant.title} ({mutant.file}): {mutant.harm}\n    {mutant.stays or 'no reason'}")
    return 1 if any(not result.mutant.stays for result in unseen) else 0


def _misplaced(mutant: Mutant) -> str:
    """Why it cannot be made; empty where it can."""
    try:
        mutant.applied()
    except MutantError as error:
        return str(error)
    return ""


def _try(words: list[str], jobs: int) -> list[Result]:
    mutants = chosen(load(), words)
    if misplaced := [error for error in map(_misplaced, mutants) if error]:
        raise MutantError("\n".join(misplaced))
    counted = [mutant for mutant in mutants if not mutant.equivalent]
    trials = Trials(max(1, min(jobs, len(counted))), Ledger.open(LEDGER))
    began = time.monotonic()
    results = [Result(mutant, "") for mutant in mutants if mutant.equivalent]
    with trials.copies():
        seconds = trials.baseline(test for one in counted for test in nearest(one.file))
        print(f"{len(seconds)} test files are green as they stand", flush=True)
        for mutant, outcome in trials.near(counted, seconds, seen_by()):
            results.append(Result(mutant, outcome.by))
            said = f"seen by {outcome.by}" if outcome.by else "NOT SEEN"
            print(f"{len(results)}/{len(mutants)} {mutant.title}: {said}", flush=True)
    print(f"{time.monotonic() - began:.0f} s")
    return sorted(results, key=lambda result: result.mutant.title)


if __name__ == "__main__":
    sys.exit(main())
