"""The prenet over several chunks in one sequence, beside upstream's over each alone."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.support.codec_parts import random_bicodec, random_tokens
from worker.speech.codec.chunked_network import gap_of
from worker.speech.codec.packing import NOBODY
from worker.speech.codec.prenet_batch import PrenetBatch

UPSTREAM = random_bicodec()
GAP = gap_of(UPSTREAM.prenet)
SENTENCES = [random_tokens(count, count) for count in (5, 1, 40, 12)]


@torch.inference_mode()
def alone(voice: tuple[int, ...], codes: tuple[int, ...]) -> Tensor:
    condition = UPSTREAM.speaker_encoder.detokenize(torch.tensor([[voice]]))
    vectors = UPSTREAM.quantizer.detokenize(torch.tensor([codes]))
    features: Tensor = UPSTREAM.prenet(vectors, condition) + condition.unsqueeze(-1)
    return features


@torch.inference_mode()
def together(owners_of: dict[int, int]) -> list[Tensor]:
    """The features of all sentences, their voices in these rows."""
    codes, owners = torch.full((96,), 7), torch.full((96,), NOBODY)
    voices = torch.zeros(6, 5, dtype=torch.long)
    begins, end = [], 0
    for number, (voice, tokens) in enumerate(SENTENCES):
        codes[end : end + len(tokens)] = torch.tensor(tokens)
        owners[end : end + len(tokens)] = owners_of[number]
        voices[owners_of[number]] = torch.tensor(voice)
        begins.append(end)
        end += len(tokens) + GAP
    made = PrenetBatch(random_bicodec())(codes, owners, voices)
    return [
        made[..., begin : begin + len(codes)]
        for begin, (_, codes) in zip(begins, SENTENCES, strict=True)
    ]


def test_each_chunk_has_the_features_that_it_has_alone() -> None:
    for owners in ({0: 0, 1: 1, 2: 2, 3: 3}, {0: 5, 1: 0, 2: 3, 3: 1}):
        for made, sentence in zip(together(owners), SENTENCES, strict=True):
            expected = alone(*sentence)
            assert made.shape == expected.shape
            assert (made - expected).abs().max() < 1e-5 * expected.abs().max()


def test_a_voice_is_heard_in_its_own_chunk_alone() -> None:
    """Else the comparison above would be none."""
    (_, codes), (other, _) = SENTENCES[2:4]
    assert (alone(other, codes) - alone(*SENTENCES[2])).abs().max() > 0.1
