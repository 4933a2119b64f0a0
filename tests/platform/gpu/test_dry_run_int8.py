"""The engine on the worker's own kernels with weights of 8 bits, on a GPU that pretends."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.support.dry_gpu.engine import loaded_fused, replays
from tests.support.random_checkpoint import Sizes, make_random_checkpoint
from worker.speech.batch.sampling import Sampling
from worker.speech.lm.fused_model import FusedLanguageModel


def test_speaks_by_replays_with_weights_of_8_bits(tmp_path: Path) -> None:
    sizes = Sizes(hidden=64, heads=2, kv_heads=1, intermediate=96, positions=1024, layers=1)
    folder = make_random_checkpoint(tmp_path / "model", sizes)
    with loaded_fused(folder, dtype="int8") as (gpu, engine):
        lm = engine._lm
        assert isinstance(lm, FusedLanguageModel)
        assert lm.in_int8
        assert {layer.qkv.weights.dtype for layer in lm._layers} == {torch.uint8}
        before = replays(gpu)
        how = Sampling(max_tokens=6, min_tokens=6, seed=3)  # the first says that codes begin
        voice = engine._prompter.some_voice()
        (spoken,) = engine.speak(["The boy walked."], voice, how)
        assert len(spoken.semantic_tokens) == 5
        assert replays(gpu) > before
