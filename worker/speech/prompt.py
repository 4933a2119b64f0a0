"""Builds prompts, as token ids of a text and a voice, and the grammar of what the model answers.

Prompts (upstream's process_prompt and process_prompt_control; no spaces between the parts):

    cloning      <|task_tts|> <|start_content|> TEXT <|end_content|>
                 <|start_global_token|> GLOBAL <|end_global_token|>
      with a transcript, TEXT is the transcript and the text, and there follows
                 <|start_semantic_token|> SEMANTIC
    designing    <|task_controllable_tts|> <|start_content|> TEXT <|end_content|>
                 <|start_style_label|> GENDER PITCH SPEED <|end_style_label|>

Answers (the model's public fine-tuning scripts train exactly these):

    cloning      <|start_semantic_token|> SEMANTIC+ <|im_end|>
    designing    <|start_acoustic_token|> PITCH_VALUE SPEED_VALUE <|end_acoustic_token|>
                 <|start_global_token|> GLOBAL x n <|end_global_token|>
                 <|start_semantic_token|> SEMANTIC+ <|im_end|>

Every id is looked up by name, so that a fine-tuned model may have other numbers and sizes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer

from worker.errors import NotAvailableError, SetupError
from worker.speech.grammar import Grammar
from worker.speech.spelling import spell
from worker.speech.voice import (
    GENDERS,
    LEVELS,
    PITCH_VALUES,
    SPEED_VALUES,
    CodecSizes,
    Style,
    Voice,
)


class Prompter:
    """Builds prompts and grammars from a checkpoint's tokenizer.

    Only tokens that both the tokenizer and the codec have can be part of an answer.
    """

    def __init__(self, tokenizer: Tokenizer, sizes: CodecSizes) -> None:
        self._tokenizer = tokenizer
        self.sizes = sizes
        if not self._semantic:
            raise SetupError("LLM/tokenizer.json has no <|bicodec_semantic_*|> token")

    @classmethod
    def load(cls, path: Path, sizes: CodecSizes) -> Prompter:
        """Load the prompter of a checkpoint from its tokenizer.json."""
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises plain Exception
            raise SetupError(f"LLM/tokenizer.json cannot be read: {error}") from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return cls(tokenizer, sizes)

    # Prompts

    def speech_prompt(self, text: str, voice: Voice) -> tuple[int, ...]:
        """The prompt after which the model speaks `text` with `voice`."""
        if voice.style is not None:
            return self._designed_prompt(text, voice, voice.style)
        transcript = voice.transcript or ""
        said = spell(transcript, self._tokenizer, "prompt_text")
        # What parts it from the text is no character to be spared, though others are.
        between = " " if transcript[-1:].isspace() and not said[-1:].isspace() else ""
        spoken = said + between + spell(text, self._tokenizer)
        ids = [
            *self._names("<|task_tts|>", "<|start_content|>"),
            *self._text(spoken),
            *self._names("<|end_content|>", "<|start_global_token|>"),
            *self._global_ids(voice),
            *self._names("<|end_global_token|>"),
        ]
        if voice.transcript is not None:
            ids += self._names("<|start_semantic_token|>")
            ids += [self._semantic_id(code) for code in voice.semantic_tokens]
        return tuple(ids)

    def design_prompt(self, text: str, style: Style) -> tuple[int, ...]:
        """The prompt after which the model chooses a voice of this style and speaks `text`."""
        return (
            *self._names("<|task_controllable_tts|>", "<|start_content|>"),
            *self._text(spell(text, self._tokenizer)),
            *self._names(
                "<|end_content|>",
                "<|start_style_label|>",
                f"<|gender_{GENDERS.index(style.gender)}|>",
                f"<|pitch_label_{LEVELS.index(style.pitch)}|>",
                f"<|speed_label_{LEVELS.index(style.speed)}|>",
                "<|end_style_label|>",
            ),
        )

    def _designed_prompt(self, text: str, voice: Voice, style: Style) -> tuple[int, ...]:
        """As if the model had just chosen this voice for this text: the sentences share it."""
        return (
            *self.design_prompt(text, style),
            *self._names(
                "<|start_acoustic_token|>",
                f"<|pitch_value_{style.pitch_value}|>",
                f"<|speed_value_{style.speed_value}|>",
                "<|end_acoustic_token|>",
                "<|start_global_token|>",
            ),
            *self._global_ids(voice),
            *self._names("<|end_global_token|>", "<|start_semantic_token|>"),
        )

    # Answers

    def speech_grammar(self, voice: Voice) -> Grammar:
        """What may follow `speech_prompt`: at least one semantic token, then more or the end."""
        # The prompt itself may have opened the semantic tokens.
        opened = voice.style is not None or voice.transcript is not None
        return self._opened_grammar if opened else self._whole_grammar

    @cached_property
    def _opened_grammar(self) -> Grammar:
        codes = frozenset(self._semantic)
        return Grammar(steps=(codes, codes | {self.end_id}), end=self.end_id)

    @cached_property
    def _whole_grammar(self) -> Grammar:
        opening = frozenset(self._names("<|start_semantic_token|>"))
        return Grammar((opening, *self._opened_grammar.steps), end=self.end_id)

    def semantic_codes(self, tokens: Iterable[int]) -> tuple[int, ...]:
        """The codec's codes in an answer to `speech_prompt`."""
        return tuple(self._semantic[token] for token in tokens if token in self._semantic)

    def design_grammar(self, style: Style) -> Grammar:
        """What may follow `design_prompt`, up to the voice's last global token."""
        pitch = PITCH_VALUES if style.pitch_value is None else (style.pitch_value,)
        speed = SPEED_VALUES if style.speed_value is None else (style.speed_value,)
        steps = (
            self._names("<|start_acoustic_token|>"),
            self._names(*(f"<|pitch_value_{value}|>" for value in pitch)),
            self._names(*(f"<|speed_value_{value}|>" for value in speed)),
            self._names("<|end_acoustic_token|>"),
            self._names("<|start_global_token|>"),
            *(self._globals for _ in range(self.sizes.voice_length)),
        )
        return Grammar(steps=tuple(frozenset(step) for step in steps))

    def some_voice(self) -> Voice:
        """A voice in tokens that the model has, whatever it sounds like."""
        code = next(iter(self._globals.values()), 0)
        return Voice(global_tokens=(code,) * self.sizes.voice_length)

    def some_code(self) -> int:
        """A code of the codec that the model has."""
        return next(iter(self._semantic.values()))

    def designed_voice(self, style: Style, tokens: Iterable[int]) -> Voice:
        """The voice in an answer to `design_prompt` under `design_grammar`."""
        _, pitch, speed, _, _, *voice = tokens
        return Voice(
            global_tokens=tuple(self._globals[token] for token in voice),
            style=replace(
                style,
                pitch_value=_number(self._name(pitch)),
                speed_value=_number(self._name(speed)),
            ),
        )

    # Ids

    @cached_property
    def end_id(self) -> int:
        """The token that ends an answer."""
        return self._id("<|im_end|>")

    @cached_property
    def _semantic(self) -> dict[int, int]:
        """The codec's code of each semantic token's id."""
        return self._family("bicodec_semantic", self.sizes.semantic_codes)

    @cached_property
    def _globals(self) -> dict[int, int]:
        """The codec's global token of each global token's id."""
        return self._family("bicodec_global", self.sizes.global_codes)

    def _family(self, name: str, count: int) -> dict[int, int]:
        ids = ((self._tokenizer.token_to_id(f"<|{name}_{n}|>"), n) for n in range(count))
        return {i: n for i, n in ids if i is not None}

    def _id(self, name: str) -> int:
        found = self._tokenizer.token_to_id(name)
        if found is None:
            what = (
                "voices made from gender, pitch and speed"
                if any(part in name for part in ("controllable", "style", "gender", "label"))
                else f"this (its tokenizer has no {name})"
            )
            raise NotAvailableError(
                f"this model cannot do {what}; give prompt_speech_url or voice instead"
            )
        return int(found)

    def _names(self, *names: str) -> tuple[int, ...]:
        return tuple(self._id(name) for name in names)

    def _name(self, token: int) -> str:
        return str(self._tokenizer.id_to_token(token))

    def _global_ids(self, voice: Voice) -> tuple[int, ...]:
        return self._names(*(f"<|bicodec_global_{n}|>" for n in voice.global_tokens))

    def _semantic_id(self, code: int) -> int:
        return self._id(f"<|bicodec_semantic_{code}|>")

    # Text

    def _text(self, text: str) -> list[int]:
        """Ids of plain text; never those of a control token, whatever the text spells."""
        ids: list[int] = []
        for piece in re.split(r"(?<=<)(?=\|)", text):
            ids += self._tokenizer.encode(piece, add_special_tokens=False).ids
        return ids


def _number(name: str) -> int:
    """The number in a token's name, such as 173 in <|pitch_value_173|>."""
    return int(name.removesuffix("|>").rsplit("_", 1)[1])
