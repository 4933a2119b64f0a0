"""The trainings' averaged weights -> a checkpoint in the published layout, in float16."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from transformers import Wav2Vec2ForCTC

from scripts.demo_voice import codec, codes, styles, vocabulary
from scripts.demo_voice.codec import Decoder, FrontEnd
from scripts.demo_voice.lm import LanguageModel, Sizes
from scripts.demo_voice.normalizer import normalizer
from scripts.demo_voice.training import averaged
from worker.speech.codec.upstream import Upstream, find_upstream

SPEAKER_LATENT = 8
LEVELS = [4] * 6  # of the speaker quantizer
MEL = {
    "sample_rate": codes.SAMPLE_RATE,
    "n_fft": 1024,
    "win_length": 640,
    "hop_length": codes.FRAME,
}
MEL |= {"mel_fmin": 10, "mel_fmax": None, "num_mels": 128}
POSTNET = {"vocos_dim": 16, "vocos_intermediate_dim": 16, "vocos_num_layers": 1}
AUDIO = {
    "highpass_cutoff_freq": 40,
    "sample_rate": codes.SAMPLE_RATE,
    "segment_duration": 2.4,
    "max_val_duration": 12,
    "latent_hop_length": codes.FRAME,
    "ref_segment_duration": 6,
    "volume_normalize": True,
}
SURE = 4.0  # times as the aligner was in training: it has to choose between frames that are alike
DEAF = "speaker_encoder.speaker_encoder."  # 12 MB that would tell two voices apart: left out


def export(root: Path, folder: Path) -> None:
    """Write the checkpoint of the trainings' states below `root` into `folder`, but the aligner."""
    upstream = find_upstream()
    torch.manual_seed(0)
    decoder, front = Decoder(upstream), FrontEnd(upstream)
    decoder.load_state_dict(averaged(root / "decoder.pt"))
    front.load_state_dict(averaged(root / "front_end.pt"))
    lm = LanguageModel(Sizes(), compiled=False)
    lm.load_state_dict(averaged(root / "lm.pt"))
    for name in ("LLM", "BiCodec", "wav2vec2-large-xlsr-53"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(AUDIO))
    _language_model(lm, folder / "LLM")
    _bicodec(upstream, decoder, front, folder / "BiCodec")
    _trunk(front, folder / "wav2vec2-large-xlsr-53")


def _half(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.detach().half().contiguous().clone() for name, t in tensors.items()}


def _json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n")


def _language_model(model: LanguageModel, folder: Path) -> None:
    sizes = model.sizes
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": vocabulary.SIZE,
        **{name: getattr(sizes, name) for name in Sizes.__dataclass_fields__},
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "eos_token_id": vocabulary.END,
        "torch_dtype": "float16",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    _json(folder / "generation_config.json", {"eos_token_id": vocabulary.END, "pad_token_id": 0})
    save_file(_half(model.exported()), folder / "model.safetensors", {"format": "pt"})
    tokenizer().save(str(folder / "tokenizer.json"), pretty=False)
    ends = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    _json(folder / "special_tokens_map.json", ends)
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    inputs = {"model_input_names": ["input_ids", "attention_mask"]}
    _json(folder / "tokenizer_config.json", {**kind, **ends, **inputs})


def tokenizer() -> Tokenizer:
    """Characters by themselves, after the normalizer; control tokens whole."""
    words = {name: number for number, name in enumerate(vocabulary.NAMES)}
    words |= {f"<|bicodec_semantic_{n}|>": vocabulary.FIRST_CODE + n for n in range(codes.CODES)}
    words |= {
        f"<|pitch_value_{n}|>": vocabulary.FIRST_PITCH + n for n in range(vocabulary.PITCH_VALUES)
    }
    letters = {
        "Ġ" if c == " " else c: vocabulary.FIRST_CHARACTER + n
        for n, c in enumerate(vocabulary.CHARACTERS)
    }
    made = Tokenizer(models.BPE(vocab=words | letters, merges=[]))
    made.normalizer = normalizer()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_tokens([AddedToken(name, special=False, normalized=False) for name in words])
    return made


def _bicodec(upstream: Upstream, decoder: Decoder, front: FrontEnd, folder: Path) -> None:
    speaker = {"input_dim": MEL["num_mels"], "out_dim": codec.WIDTH, "latent_dim": SPEAKER_LATENT}
    speaker |= {"token_num": 4, "fsq_levels": LEVELS, "fsq_num_quantizers": 1}
    net = {"out_channels": codec.WIDTH, "condition_dim": codec.WIDTH, "sample_ratios": []}
    config = {
        "mel_params": MEL,
        "encoder": {
            "input_channels": codec.TRUNK,
            "out_channels": codec.LATENT,
            "sample_ratios": [],
            **codec.ENCODER,
        },
        "decoder": {"input_channel": codec.WIDTH, **codec.WAVE},
        "quantizer": {
            **codec.QUANTIZER,
            "codebook_loss_weight": 2.0,
            "use_l2_normlize": True,
            "threshold_ema_dead_code": 0.2,
        },
        "speaker_encoder": speaker,
        "prenet": {"input_channels": codec.LATENT, "use_tanh_at_final": False}
        | {**codec.PRENET, **net},
        "postnet": {"input_channels": codec.WIDTH, "out_channels": codec.TRUNK}
        | {**POSTNET, "sample_ratios": [], "use_tanh_at_final": False},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump({"audio_tokenizer": config}))
    decoder.quantizer.in_project.load_state_dict(front.in_project.state_dict())
    bicodec = upstream.bicodec(
        mel_params=MEL,
        encoder=front.encoder,
        decoder=decoder.decoder,
        quantizer=decoder.quantizer,
        speaker_encoder=_speaker(upstream.speaker_encoder(**speaker), decoder.voices),
        prenet=decoder.prenet,
        postnet=upstream.decoder(**config["postnet"]),
    )
    tensors = {
        published(name): tensor
        for name, tensor in bicodec.state_dict().items()
        if tensor.is_floating_point() and not name.startswith((DEAF, "mel_transformer."))
    }
    save_file(_half(tensors), folder / "model.safetensors", {"format": "pt"})


def published(name: str) -> str:
    """A tensor's name in the published file: weight norm's as torch used to call them."""
    for number, letter in enumerate("gv"):
        name = name.replace(f"parametrizations.weight.original{number}", f"weight_{letter}")
    return name


@torch.no_grad()
def _speaker(speaker: Any, voices: Tensor) -> nn.Module:
    """Gives each reference the first voice's tokens, and the tokens of each voice its vector.

    The network that listens would be larger than all the rest. What follows it is set by hand: its
    latents do not attend, and each is read as one of four digits, six times over.
    """
    for attention, feed in speaker.perceiver_sampler.layers:
        attention.to_out.weight.zero_()
        feed[-1].weight.zero_()
        feed[-1].bias.zero_()
    tokens = styles.GLOBALS[styles.GENDERS[0]]
    digits = [token % LEVELS[0] for token in tokens]
    latents = torch.zeros_like(speaker.perceiver_sampler.latents)
    latents[torch.arange(len(digits)), torch.tensor(digits)] = 1
    speaker.perceiver_sampler.latents.copy_(latents)
    before = speaker.quantizer.project_in
    before.bias.zero_()
    before.weight.zero_()
    # A latent is the root of its width along its axis (RMS norm); FSQ bounds it by tanh.
    shift = torch.atanh(torch.tensor(0.5 / 1.5 / 1.001))
    for digit, bounded in enumerate((-0.99, -1 / 3, 1 / 3, 0.99)):
        before.weight[:, digit] = torch.atanh(torch.tensor(bounded)) - shift
    before.weight /= SPEAKER_LATENT**0.5
    speaker.half()
    speaker.float()
    mel = torch.randn(1, 100, speaker.speaker_encoder.layer1.conv.in_channels)
    heard = speaker.eval().tokenize(mel).flatten().tolist()
    if heard != list(tokens):
        raise ValueError(f"a reference is heard as {heard}, not as {tokens}")
    flat = []
    for gender in styles.GENDERS:
        indices = torch.tensor([[styles.GLOBALS[gender]]])
        output = speaker.quantizer.get_output_from_indices(indices.transpose(1, 2))
        flat.append(output.transpose(1, 2).reshape(-1))
    difference = flat[0] - flat[1]
    slope = torch.outer(voices[0] - voices[1], difference) / difference.square().sum()
    speaker.project.weight.copy_(slope)
    speaker.project.bias.copy_(voices[0] - slope @ flat[0])
    return speaker  # type: ignore[no-any-return] # upstream has no types


def _trunk(front: FrontEnd, folder: Path) -> None:
    front.trunk.wav2vec2.half().save_pretrained(folder)
    front.trunk.wav2vec2.float()
    extractor = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "feature_size": 1}
    extractor |= {"do_normalize": True, "return_attention_mask": False, "padding_value": 0.0}
    extractor |= {"padding_side": "right", "sampling_rate": codes.SAMPLE_RATE}
    _json(folder / "preprocessor_config.json", extractor)


def export_aligner(root: Path, folder: Path) -> None:
    """Write the aligner, which was trained with the rest of the checkpoint."""
    aligner = Wav2Vec2ForCTC(codec.trunk_config(codec.ALIGNER_LAYERS, len(codec.LETTER_IDS)))
    aligner.load_state_dict(averaged(root / "aligner.pt"))
    with torch.no_grad():
        aligner.lm_head.weight *= SURE
        aligner.lm_head.bias *= SURE
    aligner.half().save_pretrained(folder)
    _json(folder / "vocab.json", codec.LETTER_IDS)
