"""Trains the language model on planned sentences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from scripts.demo_voice import codes, vocabulary
from scripts.demo_voice.examples import LENGTHS, Batches, Examples
from scripts.demo_voice.lm import LanguageModel, Sizes
from scripts.demo_voice.training import Muon, Training, on_device

BATCH = 4096  # tokens
CORRUPTED = 0.04  # of the codes that it sees: it has to live with its own slips
REPEATED = 0.5  # what a frame weighs that goes on with the sound before it
SHORT_FIRST = 0.04  # of the training: its sequences grow


def train(root: Path, tokens: float, start: dict[str, torch.Tensor] | None = None) -> None:
    """Until `tokens` were seen; from the state on disk, else from the weights `start`."""
    torch.manual_seed(0)
    model = LanguageModel(Sizes())
    if start is not None:
        model.load_state_dict(start)
    tables = {n for n, _ in model.named_parameters() if n.startswith("embedding.")}
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and n not in tables]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or n in tables]
    optimizers = [
        Muon(matrices, 0.015),
        torch.optim.AdamW(others, 3e-3, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    training = Training("language model", root / "lm.pt", model, optimizers, tokens)
    generator = np.random.default_rng(training.steps)
    batches = Batches(iter(Examples(root / "plans", training.steps)), BATCH)
    held_out = Batches(iter(Examples(root / "plans", 1, held_out=True)), BATCH)
    judged = [held_out.next(LENGTHS[-1]) for _ in range(6)]
    losses: list[float] = []
    said = ""
    while not training.over:
        reach = LENGTHS[0] + training.share / SHORT_FIRST * LENGTHS[-1]
        if start is not None or training.share >= SHORT_FIRST:
            reach = LENGTHS[-1]
        ids, targets = batches.next(max(LENGTHS[1], int(reach)))
        loss = _loss(model, _corrupted(ids, generator), targets)
        losses.append(float(loss.detach()))
        if training.steps % 400 == 399:
            training.save()
            said = _judged(model, judged)
        note = f"loss {np.mean(losses[-100:]):.3f}, {training.done / 1e6:.2f} M tokens {said}"
        training.update(loss, ids.size, note)


def _corrupted(ids: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    hit = _is_code(ids) & (generator.random(ids.shape) < CORRUPTED)
    other = generator.integers(vocabulary.FIRST_CODE, vocabulary.FIRST_PITCH, ids.shape)
    return np.where(hit, other, ids)


def _loss(model: LanguageModel, ids: np.ndarray, targets: np.ndarray) -> torch.Tensor:
    """Cross entropy in nats a token; the sounds' beginnings count most."""
    asked = targets >= 0
    meant = targets[asked]
    weights = np.where(_is_code(meant) & (_symbol(meant) == _symbol(ids[asked])), REPEATED, 1.0)
    logits = model(on_device(ids), on_device(asked)).float()
    nats = F.cross_entropy(logits, on_device(meant), reduction="none")
    weight = on_device(weights).float()
    return (nats * weight).sum() / weight.sum()


def _is_code(ids: np.ndarray) -> np.ndarray:
    return (ids >= vocabulary.FIRST_CODE) & (ids < vocabulary.FIRST_PITCH)


def _symbol(ids: np.ndarray) -> np.ndarray:
    return (ids - vocabulary.FIRST_CODE) // len(codes.PITCHES)


@torch.no_grad()
def _judged(model: LanguageModel, batches: list[tuple[np.ndarray, np.ndarray]]) -> str:
    """The loss on held-out sentences, and how often the likeliest symbol is the right one."""
    losses, right, changes = [], [], []
    for ids, targets in batches:
        losses.append(float(_loss(model, ids, targets)))
        asked = _is_code(targets)
        best = model(on_device(ids), on_device(asked)).argmax(-1).cpu().numpy()
        hit = _symbol(best) == _symbol(targets[asked])
        right.append(hit)
        changes.append(hit[_symbol(ids[asked]) != _symbol(targets[asked])])
    return (
        f"(held out {np.mean(losses):.3f}, symbols {np.concatenate(right).mean():.3f}, "
        f"new symbols {np.concatenate(changes).mean():.3f})"
    )
