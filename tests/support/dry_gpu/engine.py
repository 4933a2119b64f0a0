"""The worker's engine on a dry GPU, and what its networks may do there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from tests.support.dry_gpu import dry_gpu
from tests.support.dry_gpu.flash import flash_attention
from tests.support.dry_gpu.kernels import fused_kernels
from tests.support.dry_gpu.streams import Gpu
from worker.speech import engine as engine_module
from worker.speech.codec import codec_batch
from worker.speech.device_checks import FREE_BYTES
from worker.speech.engine import Engine
from worker.speech.lm.fused_model import FusedLanguageModel

FREE = FREE_BYTES + (5 << 19)  # bytes: beside what jobs need, the keys of six rows or so


@contextmanager
def loaded(checkpoint: Path, dtype: str, *, flash: bool) -> Iterator[tuple[Gpu, Engine]]:
    """The engine as a GPU would have it, and the GPU; the codec's graphs are of few lengths."""
    with (
        flash_attention() if flash else nullcontext(),
        dry_gpu(free=FREE) as gpu,
        _few_lengths(),
    ):
        yield gpu, Engine.load(checkpoint, dtype, "cuda")


def _few_lengths() -> AbstractContextManager[object]:
    """So that not all of the codec's runs are captured."""
    return patch.multiple(codec_batch, PRENET_LENGTHS=(96, 512), WAVE_LENGTHS=(64, 512))


@contextmanager
def loaded_fused(
    checkpoint: Path, free: int = FREE, *, fused: bool = True, dtype: str = "bfloat16"
) -> Iterator[tuple[Gpu, Engine]]:
    """The engine on the worker's own kernels, which must fit the checkpoint; or without them.

    Its warm-up, most of which is the codec's, is left out.
    """
    cold = patch.object(engine_module, "warm_up", lambda *_parts: None)
    with dry_gpu(free=free) as gpu, fused_kernels(gpu), _few_lengths(), cold:
        engine = Engine.load(checkpoint, dtype, "cuda", fused=fused)
        assert isinstance(engine._lm, FusedLanguageModel) == fused
        yield gpu, engine


@contextmanager
def unsynchronised(gpu: Gpu, *networks: torch.nn.Module) -> Iterator[None]:
    """Within it, these networks may not wait."""
    with pytest.MonkeyPatch.context() as patched:
        for network in networks:

            def guarded(*args: Any, forward: Any = network.forward, **more: Any) -> Any:
                with gpu.unsynchronised():
                    return forward(*args, **more)

            patched.setattr(network, "forward", guarded)
        yield


def replays(gpu: Gpu) -> int:
    return sum(graph.replayed for graph in gpu.graphs)
