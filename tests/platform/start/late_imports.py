"""python -m tests.platform.start.late_imports HOW [ARGUMENTS]: a worker whose imports are late.

A volume that is busy does the same: any module may come seconds after the one before it, in any
thread, and so may any file. HOW is one of

    12              by chance; the same number makes the same modules, files and threads late
    a.b:c.d         the module a.b comes when c.d has come, in whatever thread, or has failed
    a.b!            the module a.b cannot be read, the first time
    a.b#            the module a.b comes by a call of C that keeps Python's lock for a minute, as
                    the loading of a library does; a line HELD says when
"""

from __future__ import annotations

import ctypes
import os
import random
import runpy
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MODULE_SECONDS = 0.0005  # that any module is late at most, before its code is run or afterwards
PACKAGE_SECONDS = 2.0  # that each second one of these is late at most, likewise
PACKAGES = {
    *("runpod", "runpod.cli", "runpod.serverless", "aiohttp", "boto3"),  # the main thread's
    *("worker.components", "worker.text.spoken_forms", "worker.timing.ctc_model"),
    *("worker.speech.engine", "torch", "torch.nn", "torch.fx.experimental.sym_node", "tokenizers"),
    *("worker.speech.codec.codec", "worker.wav2vec2.network", "worker.speech.lm.int8_model"),
    *("einops", "safetensors"),  # the engine's, in two threads
    *("spark_tts_lib.models", "spark_tts_lib.utils", "sparktts.models", "sparktts.utils"),
    *("whisperx", "rjieba"),  # and the aligner's
}
LATE = "late by chance:"  # a line of the output, with a module and seconds
THREAD_SECONDS = 0.5  # that each second thread begins late at most
FILE_SECONDS = 0.5  # that Python opens each second file of the volume late at most
PATIENCE = 60.0  # seconds that a module waits for another one
HELD = "Python's lock is held"

# Runs a module's code, sooner or later.
Run = Callable[[Callable[[], None]], None]


def run_late(loader: Loader, run: Run) -> None:
    """Have `run` run the module that this loader will load. The loader stays what it is.

    Waiting belongs here, not into the finder: that is called under the lock of all imports.
    """
    exec_module = loader.exec_module

    def late(module: ModuleType) -> None:
        run(lambda: exec_module(module))

    loader.exec_module = late  # type: ignore[method-assign] # of this one alone


class LateFinder(MetaPathFinder):
    """Finds what the other finders find; `how` says of a module's name how it is run."""

    def __init__(self, how: Callable[[str], Run | None]) -> None:
        self._how = how

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        found = (f.find_spec(name, path, target) for f in tuple(sys.meta_path) if f is not self)
        spec = next((one for one in found if one is not None), None)
        run = self._how(name)
        if spec is not None and isinstance(spec.loader, Loader) and run is not None:
            run_late(spec.loader, run)
        return spec


class LateFirst(list[MetaPathFinder]):
    """sys.meta_path, in which nobody comes before the first."""

    def insert(self, index: int, finder: MetaPathFinder) -> None:
        super().insert(max(1, index), finder)


def by_chance(seed: str) -> Callable[[str], Run]:
    def how(name: str) -> Run:
        chance = random.Random(f"{seed} {name}")
        very = name in PACKAGES and chance.random() < 0.5
        waits = [0.0, chance.uniform(0, PACKAGE_SECONDS if very else MODULE_SECONDS)]
        chance.shuffle(waits)
        if very:
            print(LATE, name, *waits, flush=True)

        def run(load: Callable[[], None]) -> None:
            time.sleep(waits[0])
            load()
            time.sleep(waits[1])

        return run

    return how


def late_files(seed: str, volume: str) -> Callable[[str, tuple[object, ...]], None]:
    """An audit hook: what Python itself opens below `volume`; the rest is the mount's to do."""

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and isinstance(path := arguments[0], str) and path.startswith(volume):
            time.sleep(by_half(f"{seed} {path.removeprefix(volume)}", FILE_SECONDS))

    return hear


def late_threads(seed: str) -> Callable[[threading.Thread], None]:
    """What a thread runs: of two that begin together, either may be the first to do anything."""
    run = threading.Thread.run

    def run_late(thread: threading.Thread) -> None:
        time.sleep(by_half(f"{seed} {thread.name}", THREAD_SECONDS))
        run(thread)

    return run_late


def by_half(seed: str, seconds: float) -> float:
    """For each second seed nothing, for the others up to so many seconds."""
    chance = random.Random(seed)
    return chance.uniform(0, seconds) if chance.random() < 0.5 else 0.0


def one_after_the_other(late: str, early: str) -> Callable[[str], Run | None]:
    come = threading.Event()

    def wait(load: Callable[[], None]) -> None:
        assert come.wait(PATIENCE), f"{late} waits for {early} in vain"
        load()

    def tell(load: Callable[[], None]) -> None:
        try:
            load()
        finally:
            come.set()

    return {late: wait, early: tell}.get


def broken_once(module: str) -> Callable[[str], Run | None]:
    failures = [OSError("the volume is gone")]

    def fail(load: Callable[[], None]) -> None:
        if failures:
            raise failures.pop()
        load()

    return {module: fail}.get


def held(module: str) -> Callable[[str], Run | None]:
    def hold(load: Callable[[], None]) -> None:
        print(HELD, flush=True)
        ctypes.PyDLL(None).sleep(int(PATIENCE))
        load()

    return {module: hold}.get


def parsed(how: str) -> Callable[[str], Run | None]:
    if how.isdecimal():
        return by_chance(how)
    if how.endswith("!"):
        return broken_once(how[:-1])
    if how.endswith("#"):
        return held(how[:-1])
    return one_after_the_other(*how.split(":"))


if __name__ == "__main__":
    how = sys.argv.pop(1)
    sys.meta_path = LateFirst([LateFinder(parsed(how)), *sys.meta_path])
    if how.isdecimal():
        sys.addaudithook(late_files(how, os.environ["RUNPOD_VOLUME"]))
        threading.Thread.run = late_threads(how)  # type: ignore[method-assign] # of every thread
    runpy.run_module("worker", run_name="__main__", alter_sys=True)
