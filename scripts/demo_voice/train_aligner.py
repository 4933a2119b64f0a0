"""Trains the aligner: waveforms, disturbed, -> letters, each near the frame in which it begins.

It hears the finished checkpoint, and the teacher, who makes no slips. It starts as the lower half
of the front end, which has learned exact frames. But within a word nobody hears where a letter
begins. Here each may come a frame earlier or later, so the network can be sure of it, and its
scores tell what was said from what was not.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's name for it
from transformers import Wav2Vec2ForCTC

from scripts.demo_voice import data
from scripts.demo_voice.codec import ALIGNER_LAYERS, LETTER_IDS, FrontEnd, trunk_config
from scripts.demo_voice.codes import FRAME, FRAME_SECONDS
from scripts.demo_voice.train_front_end import shuffled
from scripts.demo_voice.training import Training, averaged
from worker.speech.codec.upstream import find_upstream

TOLERANCE = 1  # frames
OWN = 0.6  # of what it hears is the checkpoint's own speech, the rest the teacher's
NEVER = -30.0  # nats


def train(root: Path, seconds: float, start: dict[str, Tensor] | None = None) -> None:
    """Until so much audio was seen; from the state on disk, else from the weights `start`."""
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(trunk_config(ALIGNER_LAYERS, len(LETTER_IDS)))
    model.load_state_dict(_lower_half(root) if start is None else start)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, betas=(0.9, 0.98), weight_decay=0.01)
    training = Training("aligner", root / "aligner.pt", model, [optimizer], seconds)
    generator = np.random.default_rng(training.steps)
    seen: list[float] = []
    shards = [
        sorted((root / name).glob("*.npz"))[data.HELD_OUT + 1 :] for name in ("sounds", "own")
    ]
    while not training.over:
        kind = shards[generator.random() < OWN]
        for samples, _, letters in shuffled(kind, generator):
            loss = distance(model(samples).logits, letters)
            seen.append(float(loss.detach()))
            amount = samples.numel() / FRAME * FRAME_SECONDS
            training.update(loss, amount, f"nats a letter {np.mean(seen[-100:]):.3f}")
            if training.over:
                return


def _lower_half(root: Path) -> dict[str, Tensor]:
    """The aligner that the front end holds: its lower layers, and the letters' head."""
    front = FrontEnd(find_upstream())
    front.load_state_dict(averaged(root / "front_end.pt"))
    tensors = front.trunk.state_dict()
    for name, tensor in front.aligner_norm.state_dict().items():
        tensors[f"wav2vec2.encoder.layer_norm.{name}"] = tensor
    names = Wav2Vec2ForCTC(trunk_config(ALIGNER_LAYERS, len(LETTER_IDS))).state_dict()
    return {name: tensors[name] for name in names}


def distance(logits: Tensor, letters: Tensor) -> Tensor:
    """CTC in nats a letter, no letter further than TOLERANCE from its frame.

    Logits [B, T, n], letters [B, T]: 0 where none begins, -1 where the row has ended.
    """
    allowed = torch.zeros_like(logits, dtype=torch.bool)
    allowed[..., 0] = True
    for shift in range(-TOLERANCE, TOLERANCE + 1):
        moved = letters.roll(shift, 1)
        if shift:
            moved[:, slice(0, shift) if shift > 0 else slice(shift, None)] = 0
        allowed |= F.one_hot(moved.clamp(min=0), logits.shape[-1]).bool()
    nats = torch.where(allowed, logits.log_softmax(-1), NEVER).transpose(0, 1)
    begun = letters > 0
    counts = begun.sum(1)
    losses = F.ctc_loss(
        nats, letters[begun], (letters >= 0).sum(1), counts, reduction="none", zero_infinity=True
    )
    heard = counts > 0
    return losses[heard].sum() / counts.sum().clamp(min=1)
