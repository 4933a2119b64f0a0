"""Our prompt ids against upstream's own prompt strings through transformers' tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from spark_tts_lib.SparkTTS import SparkTTS
from transformers import AutoTokenizer

from worker.speech.prompt import Prompter
from worker.speech.voice import LEVELS, CodecSizes, Style, Voice

TEXTS = [
    "Hello.",
    "The boy walked to the river, didn't he?",
    "Its price rose 3.5% to $43,000 in 1999!",
    "今天天气很好，我们去公园吧。",
    "Mixed 中文 and English, with 😀 and cafe\u0301.",
    "  leading and trailing spaces \n and a newline ",
]
SIZES = CodecSizes(voice_length=5, global_codes=16, semantic_codes=96)
GLOBAL = (3, 0, 15, 7, 7)
SEMANTIC = (5, 95, 0, 17, 17, 42)


class Tokens:
    """Stands where upstream's codec stands, so that its prompts can be asked for."""

    def tokenize(self, _path: Path) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tensor([[GLOBAL]]), torch.tensor([SEMANTIC])


@pytest.fixture(scope="module")
def upstream() -> SparkTTS:
    model = SparkTTS.__new__(SparkTTS)
    model.audio_tokenizer = Tokens()
    return model


@pytest.fixture(scope="module")
def prompter(tiny_checkpoint: Path) -> Prompter:
    return Prompter.load(tiny_checkpoint / "LLM" / "tokenizer.json", SIZES)


def ids(checkpoint: Path, prompt: str) -> tuple[int, ...]:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint / "LLM")
    return tuple(tokenizer([prompt]).input_ids[0])


@pytest.mark.parametrize("text", TEXTS)
def test_cloning_without_transcript(
    upstream: SparkTTS, prompter: Prompter, tiny_checkpoint: Path, text: str
) -> None:
    prompt, _ = upstream.process_prompt(text, Path("any"))
    assert prompter.speech_prompt(text, Voice(GLOBAL)) == ids(tiny_checkpoint, prompt)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("transcript", ["What was said. ", "他说的话。", "no full stop"])
def test_cloning_with_transcript(
    upstream: SparkTTS, prompter: Prompter, tiny_checkpoint: Path, text: str, transcript: str
) -> None:
    prompt, _ = upstream.process_prompt(text, Path("any"), transcript)
    voice = Voice(GLOBAL, SEMANTIC, transcript)
    assert prompter.speech_prompt(text, voice) == ids(tiny_checkpoint, prompt)


@pytest.mark.parametrize("gender", ["female", "male"])
@pytest.mark.parametrize("pitch", LEVELS)
@pytest.mark.parametrize("speed", LEVELS)
def test_controlled_voice(
    upstream: SparkTTS, prompter: Prompter, tiny_checkpoint: Path, gender, pitch, speed
) -> None:
    for text in TEXTS:
        prompt = upstream.process_prompt_control(gender, pitch, speed, text)
        style = Style(gender, pitch, speed)
        assert prompter.design_prompt(text, style) == ids(tiny_checkpoint, prompt)


def test_the_demo_model_too(upstream: SparkTTS, demo_checkpoint: Path) -> None:
    class Four(Tokens):
        def tokenize(self, _path: Path) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.tensor([[[4095, 2730, 1365, 0]]]), torch.tensor([SEMANTIC])

    upstream.audio_tokenizer = Four()
    text = "The boy's walk to the river, was it long?"
    sizes = CodecSizes(voice_length=4, global_codes=4096, semantic_codes=720)
    prompter = Prompter.load(demo_checkpoint / "LLM" / "tokenizer.json", sizes)
    prompt, _ = upstream.process_prompt(text, Path("any"), "Yes. ")
    voice = Voice((4095, 2730, 1365, 0), SEMANTIC, "Yes. ")
    assert prompter.speech_prompt(text, voice) == ids(demo_checkpoint, prompt)
