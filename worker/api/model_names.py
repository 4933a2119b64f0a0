"""The names under which a request may ask for the model, of which a worker serves one."""

from __future__ import annotations

from worker.errors import RequestError
from worker.redaction import redact

MODEL = "spark-tts"
_NAMES = (MODEL, "tts-1", "tts-1-hd", "gpt-4o-mini-tts")  # the others are what clients send


class ModelNotFoundError(RequestError):
    """The request names a model that this worker does not serve.

    Use one of those that /v1/models lists.
    """

    code = "model_not_found"


def model_names(served: str) -> tuple[str, ...]:
    """The names; `served` is the model's own."""
    return tuple(dict.fromkeys((*_NAMES, served)))


def check_model(name: object, served: str) -> None:
    """Raise ModelNotFoundError where this is none of them."""
    names = model_names(served)
    if name not in names:
        raise ModelNotFoundError(
            f"model: {redact(name)} is not served here; use one of {', '.join(names)}",
            field="model",
        )
