"""python -m tests.platform.start.late_imports SEED: a worker whose imports are late by chance.

A volume that is busy does the same: any module may come seconds after the one before it, in any
thread. The same seed makes the same modules late.
"""

from __future__ import annotations

import random
import runpy
import sys
import time
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MODULE_SECONDS = 0.0005  # that any module is late at most, before its code is run or afterwards
PACKAGE_SECONDS = 3.0  # that each second one of these is late at most, likewise
PACKAGES = {
    *("runpod", "runpod.cli", "runpod.serverless", "aiohttp", "boto3"),  # the main thread's
    *("torch", "torch.nn", "torch._meta_registrations"),  # then those of the engine's thread
    *("torchaudio", "einops", "omegaconf", "spark_tts_lib.models", "spark_tts_lib.utils"),
    *("whisperx", "transformers", "torch._dynamo", "pandas", "nltk"),  # and the aligner's
}


class LateLoader(Loader):
    """Another loader, with waiting before and after it."""

    def __init__(self, loader: Loader, before: float, after: float) -> None:
        self._loader, self._before, self._after = loader, before, after

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # Here, not in the finder: that is called under the lock that all imports share.
        time.sleep(self._before)
        self._loader.exec_module(module)
        time.sleep(self._after)


class LateFinder(MetaPathFinder):
    """Finds what the other finders find, and makes it late."""

    def __init__(self, seed: str) -> None:
        self._seed = seed

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        found = (f.find_spec(name, path, target) for f in tuple(sys.meta_path) if f is not self)
        spec = next((one for one in found if one is not None), None)
        if spec is not None and isinstance(spec.loader, Loader):
            chance = random.Random(f"{self._seed} {name}")
            late = name in PACKAGES and chance.random() < 0.5
            waits = [0.0, chance.uniform(0, PACKAGE_SECONDS if late else MODULE_SECONDS)]
            chance.shuffle(waits)
            spec.loader = LateLoader(spec.loader, *waits)
        return spec


class LateFirst(list[MetaPathFinder]):
    """sys.meta_path, in which nobody comes before the first."""

    def insert(self, index: int, finder: MetaPathFinder) -> None:
        super().insert(max(1, index), finder)


if __name__ == "__main__":
    sys.meta_path = LateFirst([LateFinder(sys.argv.pop(1)), *sys.meta_path])
    runpy.run_module("worker", run_name="__main__", alter_sys=True)
