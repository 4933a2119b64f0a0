"""Trying mutants: each in a copy of the tree, by a process that has the libraries loaded already.

A process that imports torch and pytest anew for each mutant would spend most of its time on that:
here one process imports them (multiprocessing's forkserver) and each trial is a fork of it.
"""

from __future__ import annotations

import compileall
import hashlib
import json
import multiprocessing
import os
import queue
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.util import cache_from_source
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import pytest
from hypothesis.configuration import set_hypothesis_home_dir

from scripts.mutants.mutant import OURS, REPOSITORY, Mutant
from scripts.mutants.nearest import nearest

LOADED = "scripts.mutants.preloaded"
LEFT_OUT = (".*", "__pycache__", "out", "*.pyc")  # of the tree, when it is copied
KEPT = (".runpod", ".github", ".ci")  # of what begins with a dot, for the tests that read it
AT_LEAST = 30.0  # seconds a trial may take, and thrice what its tests take without a fault
LONGEST = 600.0  # seconds of one test file, without a fault
LOG = "trial.log"
CACHE = ".user-cache"  # the user's, of a copy: kernels of mutated C stay in it
SPAWN = multiprocessing.get_context("forkserver")

Thing = TypeVar("Thing")


class TrialError(Exception):
    """The tests could not be run, or are red without any fault; the message says what to do."""


class TestGoneError(TrialError):
    """There is no test of that name (any more)."""

    __test__ = False  # pytest would take it for a test


@dataclass(frozen=True)
class Outcome:
    """What the tests said: red by the test `by`, or `by` is empty. "hang": they did not end."""

    by: str
    seconds: float
    log: str = ""  # the end of what pytest printed


class FirstFailure:
    """Plugin of pytest: the first test, or file, that fails."""

    def __init__(self) -> None:
        self.name = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test that failed."""
        if report.failed:
            self.name = self.name or report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a file that could not be imported."""
        if report.failed:
            self.name = self.name or report.nodeid


def run_tests(
    root: Path, tests: Sequence[str], seconds: float, stop: threading.Event | None = None
) -> Outcome:
    """Run tests in a copy of the tree at `root` until the first is red, for so many seconds.

    Raises TestGoneError where there is no such test, TrialError where `stop` is set.
    """
    # Both count for the first trial, which starts the server: threads that wait sleep.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    SPAWN.set_forkserver_preload([LOADED])
    ours, theirs = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=_run, args=(str(root), list(tests), seconds, theirs))
    began = time.monotonic()
    process.start()
    theirs.close()
    try:
        while not ours.poll(0.5):
            if stop is not None and stop.is_set():
                raise TrialError("stopped")
            if time.monotonic() - began > seconds:
                process.kill()
                return Outcome("hang", time.monotonic() - began)
        status, name = ours.recv()
    except EOFError:  # the process is gone: killed by a signal, or by os._exit
        return Outcome("the process died", time.monotonic() - began)
    finally:
        _end(process)
        ours.close()
    log = (root / LOG).read_text(encoding="utf-8", errors="replace")[-2000:]
    if status == pytest.ExitCode.USAGE_ERROR and "while loading conftest" not in log:
        raise TestGoneError(f"{log}\nno such test: {' '.join(tests)}")
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        name = name or f"pytest ended with {status}"  # what all tests import cannot be
    return Outcome(name, time.monotonic() - began, log if name else "")


def _run(root: str, tests: list[str], seconds: float, results: Connection) -> None:
    """In the forked process."""
    os.setsid()
    signal.alarm(int(seconds) + 10)  # where nobody is left to end it
    os.chdir(root)
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    # Compiled kernels and hypothesis's examples go with the copy.
    os.environ["XDG_CACHE_HOME"] = f"{root}/{CACHE}"
    set_hypothesis_home_dir(f"{root}/.hypothesis")
    here = {str(REPOSITORY), ""}
    sys.path[:] = [root, *(entry for entry in sys.path if entry not in here)]
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    with (Path(root) / LOG).open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    plugin = FirstFailure()
    options = ["-x", "-q", "--tb=short", "-p", "no:cacheprovider", "--basetemp", f"{root}/.tmp"]
    options.append("--hypothesis-seed=0")  # the same examples for each mutant
    status = pytest.main([*options, *tests], plugins=[plugin])
    results.send((int(status), plugin.name))
    results.close()
    sys.stdout.flush()
    os._exit(0)  # whatever threads a fault may have left


def _end(process: multiprocessing.process.BaseProcess) -> None:
    """End a trial and what it started."""
    process.join(2)
    if process.pid is not None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            process.kill()
    process.join()


@dataclass
class Ledger:
    """The outcomes so far, in a file: a run that was ended goes on where it was.

    An outcome stands as long as the mutant, its tests and all code that they may run do.
    """

    path: Path
    known: dict[str, Outcome] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> Ledger:
        """Read what is there; a line that was cut off is left out."""
        ledger = cls(path)
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        for line in lines:
            try:
                entry = json.loads(line)
                key = entry.pop("key")
                ledger.known[key] = Outcome(**entry)
            except (ValueError, KeyError, TypeError):
                continue
        return ledger

    def note(self, key: str, outcome: Outcome) -> None:
        """Add an outcome."""
        self.known[key] = outcome
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as out:
            # A new line first: the last one may have been cut off.
            out.write("\n" + json.dumps({"key": key, **asdict(outcome)}) + "\n")


class Trials:
    """Tries mutants, `jobs` at a time, each in a copy of the tree of its own."""

    def __init__(self, jobs: int, ledger: Ledger) -> None:
        self._jobs = jobs
        self._ledger = ledger
        self._code = _digest(_code_files())
        self._stop = threading.Event()
        self._copies: queue.SimpleQueue[Path] = queue.SimpleQueue()

    @contextmanager
    def copies(self) -> Iterator[None]:
        """Make the copies, and remove them at the end. The tree must stay as it is meanwhile."""
        with TemporaryDirectory(prefix="mutants-") as folder:
            for number in range(self._jobs):
                root = Path(folder) / str(number)
                copy_tree(REPOSITORY, root)
                self._copies.put(root)
            yield

    def baseline(self, tests: Iterable[str]) -> dict[str, float]:
        """Seconds of each test file as the tree stands; raises TrialError where one is red."""
        seconds: dict[str, float] = {}
        attempt = partial(self._run, seconds=LONGEST)
        for (test,), outcome in self._each([(test,) for test in sorted(set(tests))], attempt):
            if outcome.by:
                raise TrialError(
                    f"{outcome.log}\n{test} is red without any fault: {outcome.by}; mend that first"
                )
            seconds[test] = outcome.seconds
        return seconds

    def near(
        self, mutants: Sequence[Mutant], seconds: Mapping[str, float], last: Mapping[str, str]
    ) -> Iterator[tuple[Mutant, Outcome]]:
        """Try each against the unit tests that import its module, whose seconds are known.

        `last` has the test that saw a mutant before, by the mutant's title: it is tried first.
        """
        yield from self._each(mutants, partial(self._near, seconds=seconds, last=last))

    def sample(
        self, mutants: Sequence[Mutant], last: Mapping[str, str]
    ) -> Iterator[tuple[Mutant, Outcome]]:
        """Try each against the test that saw it last; all near it where that one is gone."""
        yield from self._each(mutants, partial(self._last, last=last))

    def _each(
        self, things: Sequence[Thing], attempt: Callable[[Thing], Outcome]
    ) -> Iterator[tuple[Thing, Outcome]]:
        with ThreadPoolExecutor(self._jobs) as pool:
            running = {pool.submit(attempt, thing): thing for thing in things}
            try:
                for done in as_completed(running):
                    yield running[done], done.result()
            except BaseException:
                self._stop.set()
                raise
            finally:
                pool.shutdown(cancel_futures=True)

    def _near(
        self, mutant: Mutant, seconds: Mapping[str, float], last: Mapping[str, str]
    ) -> Outcome:
        tests = nearest(mutant.file)
        key = self._key(mutant.file + mutant.applied(), tests)
        if key in self._ledger.known:
            return self._ledger.known[key]
        outcome = Outcome("", 0.0)
        known = last.get(mutant.title, "")
        first = [known] if known.partition("::")[0] in tests else []
        for test in first + tests:  # one after the other: a fault is mostly seen by the first
            limit = AT_LEAST + 3 * seconds[test.partition("::")[0]]
            with suppress(TestGoneError):
                outcome = self._run([test], limit, mutant)
            if outcome.by:
                break
        self._ledger.note(key, outcome)
        return outcome

    def _last(self, mutant: Mutant, last: Mapping[str, str]) -> Outcome:
        try:
            return self._run([last[mutant.title]], LONGEST, mutant)
        except TestGoneError:
            return self._run(nearest(mutant.file), LONGEST, mutant)

    def _run(self, tests: Sequence[str], seconds: float, mutant: Mutant | None = None) -> Outcome:
        root = self._copies.get()
        try:
            with _in_place(mutant, root) if mutant else nullcontext():
                return run_tests(root, tests, seconds, self._stop)
        finally:
            self._copies.put(root)

    def _key(self, fault: str, tests: Sequence[str]) -> str:
        files = (REPOSITORY / test for test in tests)
        return hashlib.sha256((self._code + _digest(files) + fault).encode()).hexdigest()


@contextmanager
def _in_place(mutant: Mutant, root: Path) -> Iterator[None]:
    """The fault in a copy of the tree, while the block lasts."""
    path = root / mutant.file
    text = path.read_bytes()
    # A compiled file tells its source by size and second, which a small fault may leave alike.
    Path(cache_from_source(str(path))).unlink(missing_ok=True)
    path.write_text(mutant.applied(root), encoding="utf-8")
    try:
        yield
    finally:
        path.write_bytes(text)
        if path.parent.name == "native":  # what it compiled may bear a sound library's name
            shutil.rmtree(root / CACHE, ignore_errors=True)


def copy_tree(source: Path, target: Path) -> None:
    """The project without its environments and caches, its modules compiled."""
    ignore = shutil.ignore_patterns(*LEFT_OUT)
    shutil.copytree(source, target, ignore=ignore)
    for name in KEPT:
        shutil.copytree(source / name, target / name, dirs_exist_ok=True)
    for name in ("worker", "volume"):
        compileall.compile_dir(target / name, quiet=1)


def _code_files() -> Iterator[Path]:
    """What a unit test may run beside its own file."""
    yield REPOSITORY / "tests" / "conftest.py"
    for folder in ("worker", "volume", "tests/support"):
        yield from (REPOSITORY / folder).rglob("*.*")


def _digest(paths: Iterable[Path]) -> str:
    whole = hashlib.sha256()
    for path in sorted(paths):
        if path.suffix != ".pyc" and path.is_file():
            whole.update(f"{path.relative_to(REPOSITORY)}\0".encode())
            whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()
