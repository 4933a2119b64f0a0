"""What a stage is given: the device, the scale, a stop-watch, and the engine on random weights."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from bench.gpu.scale import Scale
from bench.ours import Ours
from tests.support.random_checkpoint import make_random_checkpoint

Work = Callable[[], object]
Found = dict[str, Any]


@dataclass
class Bench:
    """One run of the check."""

    device: str  # cuda or cpu
    scale: Scale
    folder: Path  # for what is made
    fused: bool = True  # the engine's kernels, where it has both
    dtype: str = "bfloat16"  # of its language model
    took: dict[str, float] = field(default_factory=dict)  # seconds: make, load

    @property
    def on_gpu(self) -> bool:
        """Whether there is anything to wait for."""
        return self.device == "cuda"

    @cached_property
    def checkpoint(self) -> Path:
        """Random weights of the scale's size, made once."""
        folder = self.folder / self.scale.name
        if folder.is_dir():
            return folder
        self.took["make"] = self.seconds(
            lambda: make_random_checkpoint(folder, self.scale.sizes, self.device)
        )
        return folder

    @cached_property
    def ours(self) -> Ours:
        """The engine, loaded once: as the worker starts it."""
        folder, loaded = self.checkpoint, []
        self.took["load"] = self.seconds(
            lambda: loaded.append(Ours(folder, self.dtype, self.device, fused=self.fused))
        )
        return loaded[0]

    def unload(self) -> None:
        """Let the engine go, and its memory: the next use of `ours` loads it anew."""
        self.__dict__.pop("ours", None)
        gc.unfreeze()  # what stood when steps were captured, the engine among it
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.on_gpu:
            torch.cuda.synchronize()

    def seconds(self, work: Work) -> float:
        """Of one call, the device waited for. Never 0: figures are divided by it."""
        self.wait()
        started = time.perf_counter_ns()
        work()
        self.wait()
        return max(time.perf_counter_ns() - started, 1) / 1e9

    def milliseconds(self, work: Work, calls: int = 1) -> list[float]:
        """Of each call."""
        return [round(1e3 * self.seconds(work), 2) for _ in range(calls)]

    def median(self, work: Work, calls: int | None = None, warm: int = 2) -> float:
        """Milliseconds of a call in the middle, after a few that do not count."""
        for _ in range(warm):
            work()
        times = [self.seconds(work) for _ in range(calls or self.scale.calls)]
        return round(1e3 * statistics.median(times), 6)

    @cached_property
    def copied_a_second(self) -> float:
        """Bytes that the device's memory reads and writes in a second where it only copies."""
        source = torch.zeros(self.scale.copied, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        return 2e3 * self.scale.copied / self.median(lambda: target.copy_(source))

    def free_memory(self) -> int:
        """Bytes of the device's that nobody has; 0 without one."""
        return torch.cuda.mem_get_info()[0] if self.on_gpu else 0

    def forget_peak(self) -> None:
        """From now on `peak_memory` is counted anew."""
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()

    def peak_memory(self) -> int:
        """Bytes of the device's that torch had at most; 0 without one."""
        return torch.cuda.max_memory_reserved() if self.on_gpu else 0
