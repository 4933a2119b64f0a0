"""Many sequences through one language model at once, each with its own draws and its own end.

All sequences of a call follow one `Plan`: what may be answered at each step. They need no common
length; a row that has ended leaves the batch when half of it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from worker.speech.lm import KVCache, LanguageModel
from worker.speech.sampling import Sampling, draw, row_uniforms


@dataclass(frozen=True)
class Plan:
    """The token ids allowed at each step of an answer; the last set holds for all later steps.

    With an `end` the answer goes on until that token is drawn, without one it has exactly
    len(steps) tokens.
    """

    steps: tuple[frozenset[int], ...]
    end: int | None = None


@dataclass(frozen=True)
class Answer:
    """What the model answered in one row."""

    tokens: tuple[int, ...]  # without the end token
    ended: bool  # False: cut off at the row's limit
    strayed: int  # steps where the model's own favourite was not allowed


@dataclass(frozen=True)
class Row:
    """One sequence: its prompt, the name that its draws are derived from, and its most tokens."""

    prompt: tuple[int, ...]
    name: str
    limit: int


@torch.inference_mode()
def answer(lm: LanguageModel, rows: Sequence[Row], plan: Plan, sampling: Sampling) -> list[Answer]:
    """The answers of all rows, in order, from one batch."""
    device = lm.device
    allowed = [torch.tensor(sorted(step), device=device) for step in plan.steps]  # each [n]
    in_step = [
        _membership(step, lm.config.vocab_size).to(device) for step in plan.steps
    ]  # each [V]
    uniforms = pad_sequence(
        [row_uniforms(sampling.seed, row.name, row.limit) for row in rows], batch_first=True
    ).to(device)  # [B, most tokens]
    tokens: list[list[int]] = [[] for _ in rows]
    strayed = [0] * len(rows)
    ended = [False] * len(rows)

    cache, hidden = _prefill(lm, rows)  # hidden [B, D]: the last token of each prompt
    batch = list(range(len(rows)))  # which row stands at each place of the batch
    running = set(batch)
    step = 0
    while running:
        phase = min(step, len(plan.steps) - 1)
        logits = lm.logits(hidden)  # [B, V]
        places = draw(logits[:, allowed[phase]], sampling, uniforms[:, step])
        ids = allowed[phase][places]  # [B]
        stray = ~in_step[phase][logits.argmax(-1)]
        for row, token, is_stray in zip(batch, ids.tolist(), stray.tolist(), strict=True):
            if row not in running:
                continue
            strayed[row] += is_stray
            if token == plan.end:
                ended[row] = True
            else:
                tokens[row].append(token)
            cut = len(tokens[row]) == rows[row].limit
            complete = plan.end is None and len(tokens[row]) == len(plan.steps)
            if ended[row] or cut or complete:
                ended[row] = ended[row] or complete
                running.discard(row)
        if len(running) <= len(batch) // 2:
            places = torch.tensor(
                [p for p, row in enumerate(batch) if row in running], dtype=torch.long
            )
            batch = [row for row in batch if row in running]
            places = places.to(device)
            cache.keep(places)
            ids, uniforms = ids[places], uniforms[places]
        if batch:
            positions = torch.tensor(
                [[len(rows[row].prompt) + min(step, len(tokens[row]) - 1)] for row in batch],
                device=device,
            )  # [B, 1]; a row that has ended stays where it is
            hidden = lm(ids[:, None], positions, cache)[:, 0]
        step += 1
    return [Answer(tuple(t), e, s) for t, e, s in zip(tokens, ended, strayed, strict=True)]


def _prefill(lm: LanguageModel, rows: Sequence[Row]) -> tuple[KVCache, Tensor]:
    """Run all prompts; the cache and the hidden state [B, D] after each prompt's last token."""
    lengths = torch.tensor([len(row.prompt) for row in rows], device=lm.device)  # [B]
    ids = pad_sequence(
        [torch.tensor(row.prompt, device=lm.device) for row in rows], batch_first=True
    )  # [B, S]
    positions = torch.arange(ids.shape[1], device=lm.device).expand_as(ids)
    cache = lm.new_cache(len(rows))
    hidden = lm(ids, positions, cache)
    return cache, hidden[torch.arange(len(rows), device=lm.device), lengths - 1]


def _membership(ids: frozenset[int], size: int) -> Tensor:
    """Bool [size], True at each id."""
    member = torch.zeros(size, dtype=torch.bool)
    member[sorted(ids)] = True
    return member
