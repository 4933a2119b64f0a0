"""Checks whether a checkpoint of a stranger fits: each reason why not is a line.

python -m worker.speech.fit CHECKPOINT [--early]

With --early weights may be missing, and what is there of them may be their names and shapes alone:
so nearly everything is known before gigabytes are downloaded. All is checked by the code that loads
it later. The exit status is 1 where something does not fit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer

from worker.errors import WorkerError, in_one_line
from worker.speech.checkpoint import WEIGHTS, Checkpoint, find_tensors
from worker.speech.codec.codec import Codec
from worker.speech.codec.upstream import find_upstream
from worker.speech.lm.config import LMConfig
from worker.speech.prompt import Prompter
from worker.speech.voice import CodecSizes

MARK = "does not fit: "  # begins each line that names a reason
NAMED = 5  # tensors or tokens that one line names
FLOATS = {"F32", "BF16", "F16"}
FEATURE_WEIGHTS = (WEIGHTS, "pytorch_model.bin")


def misfits(folder: Path, *, early: bool = False) -> list[str]:
    """Return why the checkpoint in `folder` cannot be spoken with; empty where it can."""
    checkpoint = Checkpoint(folder)
    found: list[str] = []

    def look(check: Callable[[], Iterator[str]]) -> None:
        try:
            found.extend(check())
        except WorkerError as error:
            found.append(error.message)
        except Exception as error:  # a config may hold anything
            found.append(f"{check.__name__}: {in_one_line(error)}")

    def language_model() -> Iterator[str]:
        config = LMConfig.read(checkpoint.language_model / "config.json")
        if not early or (checkpoint.language_model / WEIGHTS).is_file():
            yield from _misfit_tensors(config, checkpoint.language_model / WEIGHTS)

    def tokens() -> Iterator[str]:
        upstream, folder = find_upstream(), checkpoint.language_model
        config = upstream.load_config(checkpoint.codec / "config.yaml")["audio_tokenizer"]
        vocabulary = LMConfig.read(folder / "config.json").vocab_size
        yield from misfit_tokens(folder / "tokenizer.json", CodecSizes.of(config), vocabulary)

    def codec() -> Iterator[str]:
        there = [(checkpoint.features / name).is_file() for name in FEATURE_WEIGHTS]
        if not early or (any(there) and (checkpoint.codec / WEIGHTS).is_file()):
            Codec.load(checkpoint, find_upstream(), torch.device("cpu"), torch.float32)
        yield from ()

    for check in (language_model, tokens, codec):
        look(check)
    return found


def _misfit_tensors(config: LMConfig, path: Path) -> Iterator[str]:
    places = find_tensors(path)
    there = {name.removeprefix("model."): place for name, place in places.items()}
    wanted = lm_shapes(config)
    if config.tie_word_embeddings and "lm_head.weight" not in there:
        wanted.pop("lm_head.weight")
    name = f"LLM/{path.name}"
    if missing := sorted(wanted.keys() - there.keys()):
        yield f"{name} lacks {_some(missing)}"
    if unexpected := sorted(there.keys() - wanted.keys()):
        yield f"{name} has tensors that a Qwen2 decoder has not: {_some(unexpected)}"
    others = [
        f"{tensor} is {list(there[tensor].shape)}, not {list(shape)}"
        for tensor, shape in wanted.items()
        if tensor in there and there[tensor].shape != shape
    ]
    if others:
        yield f"{name} does not fit LLM/config.json: {_some(others)}"
    kinds = sorted({there[tensor].dtype for tensor in wanted if tensor in there} - FLOATS)
    if kinds:
        yield f"{name} has weights of type {', '.join(kinds)}; save them as float32 or bfloat16"


def lm_shapes(config: LMConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a Qwen2 decoder, without the prefix "model."."""
    hidden, inner = config.hidden_size, config.intermediate_size
    width = config.num_key_value_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "embed_tokens.weight": (config.vocab_size, hidden),
        "norm.weight": (hidden,),
        "lm_head.weight": (config.vocab_size, hidden),
    }
    for index in range(config.num_hidden_layers):
        layer = f"layers.{index}."
        for part, outputs in (("q", hidden), ("k", width), ("v", width)):
            shapes[f"{layer}self_attn.{part}_proj.weight"] = (outputs, hidden)
            shapes[f"{layer}self_attn.{part}_proj.bias"] = (outputs,)
        shapes[f"{layer}self_attn.o_proj.weight"] = (hidden, hidden)
        for part in ("gate", "up"):
            shapes[f"{layer}mlp.{part}_proj.weight"] = (inner, hidden)
        shapes[f"{layer}mlp.down_proj.weight"] = (hidden, inner)
        for part in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{layer}{part}.weight"] = (hidden,)
    return shapes


def misfit_tokens(path: Path, sizes: CodecSizes, vocabulary: int) -> Iterator[str]:
    """Say which tokens of the prompts and of the codec's codes the tokenizer lacks.

    A model of one voice needs no other global tokens than that voice's. `vocabulary` is how many
    tokens the language model knows.
    """
    prompter = Prompter.load(path, sizes)
    voice = prompter.some_voice()
    ids = [*prompter.speech_prompt("Yes.", voice), prompter.end_id]
    prompter.speech_grammar(voice)
    tokenizer = Tokenizer.from_file(str(path))
    for kind, count in (("semantic", sizes.semantic_codes), ("global", sizes.global_codes)):
        names = [f"<|bicodec_{kind}_{code}|>" for code in range(count)]
        numbers = [tokenizer.token_to_id(name) for name in names]
        there = [number for number in numbers if number is not None]
        lacking = [name for name, number in zip(names, numbers, strict=True) if number is None]
        ids += there
        one_voice = kind == "global" and 0 < len(there) <= sizes.voice_length
        if lacking and not one_voice:
            yield (
                f"LLM/tokenizer.json lacks {len(lacking)} of the codec's {count} {kind} tokens: "
                f"{_some(lacking)}"
            )
    if max(ids) >= vocabulary:
        yield (
            f"LLM/tokenizer.json has tokens up to {max(ids)}, and LLM/config.json a vocabulary of "
            f"{vocabulary}"
        )


def _some(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def main(arguments: list[str]) -> int:
    """Print each reason; the exit status is 1 where there is one."""
    found = misfits(Path(arguments[0]), early="--early" in arguments[1:])
    for reason in found:
        print(MARK + " ".join(reason.split()))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
