"""Upstream: `SparkTTS.inference` as it is, held to a number of tokens from outside.

Random weights draw neither an end nor codes. So upstream draws N tokens from its whole vocabulary,
at its own cost, and only then are they replaced by N random codes for its codec.
"""

from __future__ import annotations

import contextlib
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from spark_tts_lib.SparkTTS import SparkTTS

DESIGN = {"gender": "female", "pitch": "moderate", "speed": "moderate"}


class Theirs:
    """Upstream's model, its language model in float32 or another precision."""

    def __init__(self, checkpoint: Path, device: str = "cpu", dtype: str = "float32") -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints the tensors that it missed
            self._tts = SparkTTS(checkpoint, torch.device(device))
        self._tts.model.to(getattr(torch, dtype))
        self._generate = self._tts.model.generate
        self._tts.model.generate = self._held
        self._draws = np.random.default_rng(0)
        self._tokens = 0
        config = yaml.safe_load((checkpoint / "BiCodec" / "config.yaml").read_text())
        self._voice_length = config["audio_tokenizer"]["speaker_encoder"]["token_num"]
        self._codes = self._ids("semantic")
        self._voice = self._ids("global")
        self.lm_seconds = 0.0  # of the last sentence

    def speak(
        self, text: str, tokens: int, reference: Path | None = None, transcript: str | None = None
    ) -> NDArray[np.float32]:
        """One sentence of `tokens` tokens; a designed voice, or a reference's."""
        self._tokens = tokens
        how = {"prompt_speech_path": reference, "prompt_text": transcript} if reference else DESIGN
        samples: NDArray[np.float32] = np.atleast_1d(self._tts.inference(text, **how))
        if len(samples) != tokens * 320:
            raise RuntimeError(f"upstream made {len(samples)} samples of {tokens} tokens")
        return samples

    def listen(self, reference: Path) -> None:
        """A reference's tokens."""
        with torch.no_grad():
            for tokens in self._tts.audio_tokenizer.tokenize(reference):
                tokens.cpu()  # waits for the device

    def _held(self, **asked: Any) -> torch.Tensor:
        started = time.perf_counter()
        # A minimum would cost it milliseconds a token: an end that is no token costs nothing.
        never = self._tts.model.config.vocab_size
        asked |= {"max_new_tokens": self._tokens, "eos_token_id": never, "pad_token_id": 0}
        answer = self._generate(**asked)  # [1, prompt and tokens]
        self.lm_seconds = time.perf_counter() - started
        prompt = asked["input_ids"].shape[1]
        if answer.shape[1] != prompt + self._tokens:
            raise RuntimeError(f"upstream drew {answer.shape[1] - prompt} tokens")
        drawn = [self._draws.choice(self._voice, self._voice_length)]
        drawn += [self._draws.choice(self._codes, self._tokens)]
        codes = torch.from_numpy(np.concatenate(drawn)).to(answer)[None]
        return torch.cat((answer[:, :prompt], codes), dim=1)

    def _ids(self, family: str) -> NDArray[np.int64]:
        vocabulary = self._tts.tokenizer.get_vocab()
        return np.array(sorted(i for t, i in vocabulary.items() if f"<|bicodec_{family}_" in t))
