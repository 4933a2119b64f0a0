"""The language model on the fastest kernels that the settings and the device leave."""

from __future__ import annotations

from collections.abc import Callable

import torch

from worker.errors import SetupError
from worker.logs import log
from worker.speech.checkpoint import Checkpoint
from worker.speech.lm.config import LMConfig
from worker.speech.lm.int8_model import Int8LanguageModel
from worker.speech.lm.int8_weights import Kernel, Weights, why_unsupported
from worker.speech.lm.interface import Decoder
from worker.speech.lm.torch_model import LanguageModel
from worker.speech.native.build import cpu_has_bfloat16

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
INT8 = "int8"


def load_language_model(
    checkpoint: Checkpoint,
    published: Checkpoint,
    dtype: str,
    device: torch.device,
    int8_weights: Callable[[], Weights | None],
) -> Decoder:
    """The language model on the fastest kernels that `dtype` and the device leave."""
    if dtype == INT8 or (dtype == "auto" and device.type == "cpu"):
        unfit = "it needs a CPU" if device.type != "cpu" else None
        unfit = unfit or why_unsupported(LMConfig.read(published.language_model / "config.json"))
        weights = None if unfit else int8_weights()
        kernel = None if unfit else Kernel.open(torch.get_num_threads())
        if kernel is not None:
            return Int8LanguageModel.load(published.language_model, kernel, weights)
        why = unfit or "see the line above"
        if dtype == INT8:
            raise SetupError(f"SPARK_DTYPE=int8 cannot be had here ({why}); use auto")
        log.info("the language model does not run in int8: %s", why)
    precision = DTYPES.get(dtype) or (torch.bfloat16 if _has_bfloat16(device) else torch.float32)
    folder = (checkpoint if precision is torch.bfloat16 else published).language_model
    return LanguageModel.load(folder, precision, device)


def _has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return cpu_has_bfloat16()
