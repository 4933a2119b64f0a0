"""A CTC model of one language, from a folder on the volume to scores for each frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from worker.errors import SetupError
from worker.model_files.json_object import read_json
from worker.timing.windows import Lane, Windows
from worker.wav2vec2.loading import load_wav2vec2

SAMPLE_RATE = 16_000  # of wav2vec 2.0, of WhisperX and of Spark-TTS
FRAME_SECONDS = 0.02  # from one frame of wav2vec 2.0 to the next
_WINDOW_MIN = 400  # samples that the convolutions need for their first frame


OpenLane = Callable[[torch.device, str], Lane]  # a GPU, a name for the thread -> a new lane


class CtcModel:
    """A model that scores each frame of 20 ms over an alphabet."""

    def __init__(
        self,
        language: str,
        forward: Callable[[torch.Tensor], torch.Tensor],
        alphabet: Mapping[str, int],
        *,
        normalise: bool,
        device: str,
        lane: Lane | None = None,
        windows: Windows | None = None,
    ) -> None:
        """`forward` maps samples [1, n] to logits [1, frames, len(alphabet)].

        It runs on `lane`; without one, in the thread that asks for logits. With `windows` these
        run what waits together, in the place of both.
        """
        self.language = language
        self.alphabet = dict(alphabet)
        self._forward = forward
        self._normalise = normalise
        self._device = device
        self._lane = lane
        self._windows = windows

    def logits(self, window: NDArray[np.float32]) -> torch.Tensor:
        """Logits [1, frames, characters] of samples [n] at 16 kHz, on the CPU."""
        samples = torch.from_numpy(window)
        if self._windows is not None:
            return self._windows.logits(self._prepared(samples))
        work = partial(self._logits, samples)
        return work() if self._lane is None else self._lane.do(work)

    def _logits(self, samples: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return self._forward(self._prepared(samples.to(self._device))[None]).float().cpu()

    def _prepared(self, samples: torch.Tensor) -> torch.Tensor:
        """Samples [n] as the model knows them, of which it can make a frame."""
        if self._normalise and samples.numel():
            samples = (samples - samples.mean()) / torch.sqrt(samples.var(correction=0) + 1e-7)
        return torch.nn.functional.pad(samples, (0, max(0, _WINDOW_MIN - samples.numel())))

    def knows(self, char: str) -> bool:
        """Whether the character is a letter of the alphabet, and not one of the model's marks."""
        return char in self.alphabet and (char.isalpha() or char == "'")


def load_model(
    language: str, folder: Path, device: str, open_lane: OpenLane | None = None
) -> CtcModel:
    """Load a wav2vec 2.0 with a CTC head, with its vocab.json; nothing is downloaded.

    On a GPU the model runs on a lane of its own, where `open_lane` gives one. Raises SetupError
    where the folder is not complete or its files do not fit each other.
    """
    vocabulary = folder / "vocab.json"
    if not vocabulary.is_file():
        raise SetupError(
            f"the alignment model for {language!r} is not complete: {folder.name}/vocab.json is "
            "missing; install the model again with: python -m volume install"
        )
    where = torch.device(device)
    network = load_wav2vec2(folder, where, head=True)
    letters = network.config.letters or 0  # a tokenizer may have marks that the model cannot hear
    written = read_json(vocabulary).items()
    alphabet = {token.lower(): index for token, index in written if index < letters}
    lane = windows = None
    if open_lane is not None and where.type == "cuda":
        # Only now, for a lane's work begins after what was queued before it: here, the weights.
        lane = open_lane(where, f"aligner-{language}")

        def together(samples: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
            return network.logits(samples.to(where), sizes)

        windows = Windows(together, network.config.frames, lane)
    return CtcModel(
        language,
        network.logits,
        alphabet,
        normalise=_normalises(folder),
        device=device,
        lane=lane,
        windows=windows,
    )


def _normalises(folder: Path) -> bool:
    """Whether the model was trained on samples of mean 0 and variance 1; most were.

    transformers 5 saves a whole processor as one file, which goes before that of the extractor.
    """
    files = (folder / "processor_config.json", folder / "preprocessor_config.json")
    processor, extractor = (read_json(file) if file.is_file() else {} for file in files)
    return bool(processor.get("feature_extractor", extractor).get("do_normalize", True))
