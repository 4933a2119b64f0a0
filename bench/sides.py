"""Both sides, loaded once for the cases that measure them in one process."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from functools import cached_property

from bench.material import Material
from bench.ours import Ours
from bench.scale import Scale
from bench.theirs import Theirs


@dataclass
class Sides:
    """What a case is given."""

    material: Material
    scale: Scale
    device: str
    dtype: str
    llama: str | None = None  # a Python that has llama_cpp and gguf

    @cached_property
    def theirs(self) -> Theirs:
        """Upstream, ready: its first sentence is spoken."""
        loaded = Theirs(self.material.checkpoint, self.device)
        loaded.speak("The winter.", 4)
        return loaded

    @cached_property
    def ours(self) -> Ours:
        """Ours, ready."""
        loaded = Ours(self.material.checkpoint, self.dtype, self.device)
        loaded.speak(["The winter."], 4)
        return loaded

    def load(self) -> None:
        """Both, before anything is measured."""
        _ = self.theirs, self.ours

    def unload(self) -> None:
        """Give the memory back: processes of their own are measured next."""
        for side in ("theirs", "ours"):
            self.__dict__.pop(side, None)
        gc.collect()
