"""A checkpoint's weights as the trainings have them: training goes on where a checkpoint stands.

The inverse of export.py, but for what float16 rounds away. What a checkpoint does not hold (the
optimisers' states, how sharp the front end's choice is) starts anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from scripts.demo_voice import codes, styles, vocabulary
from scripts.demo_voice.codec import Decoder, FrontEnd
from scripts.demo_voice.export import SURE, published
from scripts.demo_voice.lm import LanguageModel, Sizes
from worker.speech.codec.upstream import find_upstream

SHARP = 20.0  # of cosines; trainings from nothing end thereabouts


def lm(checkpoint: Path) -> dict[str, Tensor]:
    """The table of tokens is taken apart: what a code has of its symbol, its pitch, and alone."""
    tensors = _file(checkpoint / "LLM")
    model = LanguageModel(Sizes(), compiled=False)
    exported = model.exported()  # these tensors share the model's own memory, but for the table
    if tensors.keys() != exported.keys():
        raise ValueError(f"other tensors: {sorted(tensors.keys() ^ exported.keys())}")
    table = tensors.pop("model.embed_tokens.weight")
    for name, tensor in tensors.items():
        exported[name].copy_(tensor)
    plain, units, values = table.tensor_split([vocabulary.FIRST_CODE, vocabulary.FIRST_PITCH])
    units = units.view(len(codes.SYMBOLS), len(codes.PITCHES), -1)
    symbols = units.mean(1)
    pitches = (units - symbols[:, None]).mean(0)
    state = model.state_dict()
    state["embedding.plain"] = plain
    state["embedding.symbols"] = symbols
    state["embedding.pitches"] = pitches
    state["embedding.own"] = (units - symbols[:, None] - pitches).flatten(0, 1)
    waves = model.embedding.waves.double()  # some of them are nearly alike
    state["embedding.values"] = torch.linalg.lstsq(waves, values.double()).solution.float()
    return state


def decoder(checkpoint: Path) -> dict[str, Tensor]:
    """The voices are what the speaker encoder makes of their tokens."""
    tensors = _file(checkpoint / "BiCodec")
    upstream = find_upstream()
    state = _filled(Decoder(upstream).state_dict(), tensors, {"quantizer.cluster_size", "voices"})
    speaker = upstream.speaker_encoder(**_speaker_sizes(checkpoint))
    own = speaker.state_dict()
    for name in own:
        own[name] = tensors.get(f"speaker_encoder.{name}", own[name])
    speaker.load_state_dict(own)
    indices = torch.tensor([[styles.GLOBALS[gender]] for gender in styles.GENDERS])
    state["voices"] = speaker.eval().detokenize(indices).detach()
    return state


def front_end(checkpoint: Path) -> dict[str, Tensor]:
    """The trunk, the encoder, and the head of letters, which is the aligner's."""
    tensors = _file(checkpoint / "BiCodec")
    trunk = _file(checkpoint / "wav2vec2-large-xlsr-53")
    letters = aligner(checkpoint)
    tensors |= {f"trunk.wav2vec2.{name}": tensor for name, tensor in trunk.items()}
    for part in ("weight", "bias"):
        tensors[f"trunk.lm_head.{part}"] = letters[f"lm_head.{part}"]
        tensors[f"aligner_norm.{part}"] = letters[f"wav2vec2.encoder.layer_norm.{part}"]
    for part in ("bias", "weight_g", "weight_v"):
        tensors[f"in_project.{part}"] = tensors[f"quantizer.in_project.{part}"]
    tensors["sharpness"] = torch.tensor(SHARP)
    return _filled(FrontEnd(find_upstream()).state_dict(), tensors, set())


def aligner(checkpoint: Path) -> dict[str, Tensor]:
    """As it lies there, as unsure as it was in training."""
    tensors = _file(checkpoint / "aligner")
    return {name: t / SURE if name.startswith("lm_head.") else t for name, t in tensors.items()}


def _file(folder: Path) -> dict[str, Tensor]:
    return {name: t.float() for name, t in load_file(folder / "model.safetensors").items()}


def _speaker_sizes(checkpoint: Path) -> dict[str, Any]:
    config = yaml.safe_load((checkpoint / "BiCodec" / "config.yaml").read_text())
    return dict(config["audio_tokenizer"]["speaker_encoder"])


def _filled(
    state: dict[str, Tensor], tensors: dict[str, Tensor], free: set[str]
) -> dict[str, Tensor]:
    """The state with the file's tensors; all but the free ones have to be there."""
    for name, shaped in state.items():
        found = tensors.get(name, tensors.get(published(name)))
        if found is not None:
            state[name] = found.reshape(shaped.shape)
        elif name not in free:
            raise ValueError(f"the checkpoint has no {published(name)}")
    return state
