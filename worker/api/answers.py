"""What the HTTP door answers beside speech: errors, models and health, in JSON."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fault(_Answer):
    """An error as OpenAI's clients read it."""

    message: str = Field(description="What is wrong, and what to do.")
    type: str = Field(
        description="OpenAI's kind of the error, such as invalid_request_error or server_error."
    )
    param: str | None = Field(description="The field that is to blame, where one is.")
    code: str = Field(description="The error's code, as docs/API.md lists them.")


class ErrorAnswer(_Answer):
    """What a request that failed is answered."""

    error: Fault = Field(description="The error.")


class Model(_Answer):
    """A name that a request may give as its `model`."""

    id: str = Field(description="The name.")
    object: Literal["model"] = Field(default="model", description="Always model.")
    created: int = Field(ge=0, description="Always 0: what is served has no such date.")
    owned_by: str = Field(description="Whose the model is.")


class ModelList(_Answer):
    """All names of the model that is served."""

    object: Literal["list"] = Field(default="list", description="Always list.")
    data: tuple[Model, ...] = Field(description="The names.")


class Health(_Answer):
    """How the worker is."""

    status: Literal["ready", "draining"] = Field(
        description="ready, or draining: the worker ends and takes no more requests."
    )
    model: str | None = Field(
        default=None, description="The model that is served. This and the rest only with the key."
    )
    requests: int | None = Field(
        default=None, ge=0, description="Requests that are being answered."
    )
    limit: int | None = Field(
        default=None, ge=1, description="Requests that are answered at once; more get 429."
    )
    slots: int | None = Field(
        default=None, ge=1, description="Sentences that can be spoken at once."
    )
    speaking: int | None = Field(default=None, ge=0, description="Sentences that are being spoken.")
    waiting: int | None = Field(default=None, ge=0, description="Sentences that wait for a slot.")
