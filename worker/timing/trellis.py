"""WhisperX's trellis and the way back through it, a frame at a time in place of a number.

The same sums of float32 in the same order as `get_trellis` and `backtrack` of whisperx.alignment,
so that each result is theirs to the last bit. Those take a torch tensor's number for each of the
frames several times, all of it under Python's lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch


class Point(NamedTuple):
    """A frame on the path: the character that is spoken in it, and the probability of that."""

    token_index: int
    time_index: int
    score: float


def get_trellis(emission: torch.Tensor, tokens: Sequence[int], blank_id: int = 0) -> torch.Tensor:
    """Score of the best path to each character at each frame: [frames + 1, tokens + 1], float32.

    `emission` [frames, alphabet] has log probabilities; `tokens` are indices into the alphabet.
    Row 0 and column 0 stand before the first frame and before the first character.
    """
    count = len(tokens)
    scores = emission.numpy()
    trellis = np.empty((len(scores) + 1, count + 1), np.float32)
    trellis[0, 0] = 0
    trellis[1:, 0] = torch.cumsum(emission[:, blank_id], 0).numpy()
    trellis[0, -count:] = -np.inf
    trellis[-count:, 0] = np.inf
    stays = np.empty(count, np.float32)
    for same, previous, blank, change, best in zip(
        trellis[:-1, 1:],
        trellis[:-1, :-1],
        scores[:, blank_id],
        scores[:, tokens],
        trellis[1:, 1:],
        strict=True,
    ):
        np.add(same, blank, out=stays)
        np.add(previous, change, out=change)
        np.maximum(stays, change, out=best)
    return torch.from_numpy(trellis)


def backtrack(
    trellis: torch.Tensor, emission: torch.Tensor, tokens: Sequence[int], blank_id: int = 0
) -> list[Point] | None:
    """The path from the first character to the last, one point a frame; None where there is none.

    It ends in the frame at which the last character's score is best.
    """
    best, scores = trellis.numpy(), emission.numpy()
    stays = best[:-1, 1:] + scores[:, blank_id, None]
    changes = best[:-1, :-1] + scores[:, tokens]
    changed = changes > stays
    token = len(tokens) - 1
    places: list[tuple[int, int]] = []  # character, frame
    heard: list[int] = []  # what is heard there, as an index into the alphabet
    for frame in range(int(torch.argmax(trellis[:, -1])) - 1, -1, -1):
        places.append((token, frame))
        if changed[frame, token]:
            heard.append(tokens[token])
            token -= 1
            if token < 0:
                break
        else:
            heard.append(blank_id)
    else:
        return None
    frames = [frame for _, frame in places]
    probabilities = emission[frames, heard].exp().tolist()
    path = [Point(*at, score) for at, score in zip(places, probabilities, strict=True)]
    return path[::-1]
