"""The language model's tokens, and what it is trained on as sequences of them.

The order of ids is free: whoever loads the checkpoint looks them up by name. Text is in characters.
"""

from __future__ import annotations

from scripts.demo_voice import codes, styles

CHARACTERS = " abcdefghijklmnopqrstuvwxyz'.,?!-:;"
CONTROL = (
    *("<|endoftext|>", "<|im_end|>", "<|task_tts|>", "<|task_controllable_tts|>"),
    *("<|start_content|>", "<|end_content|>"),
    *("<|start_global_token|>", "<|end_global_token|>"),
    *("<|start_semantic_token|>", "<|end_semantic_token|>"),
    *("<|start_style_label|>", "<|end_style_label|>"),
    *("<|start_acoustic_token|>", "<|end_acoustic_token|>"),
    *(f"<|gender_{n}|>" for n in range(len(styles.GENDERS))),
    *(f"<|pitch_label_{n}|>" for n in range(5)),
    *(f"<|speed_label_{n}|>" for n in range(5)),
)
GLOBALS = sorted({token for voice in styles.GLOBALS.values() for token in voice})
PITCH_VALUES, SPEED_VALUES = 1001, 11
NAMES = (
    *CONTROL,
    *(f"<|bicodec_global_{n}|>" for n in GLOBALS),
    *(f"<|speed_value_{n}|>" for n in range(SPEED_VALUES)),
)
IDS = {name: number for number, name in enumerate(NAMES)}
FIRST_CHARACTER = len(NAMES)
FIRST_CODE = FIRST_CHARACTER + len(CHARACTERS)
FIRST_PITCH = FIRST_CODE + codes.CODES
SIZE = FIRST_PITCH + PITCH_VALUES
PAD, END = IDS["<|endoftext|>"], IDS["<|im_end|>"]
_CHARACTERS = {character: FIRST_CHARACTER + n for n, character in enumerate(CHARACTERS)}


def text_ids(text: str) -> list[int]:
    """Ids of the characters that there are."""
    return [_CHARACTERS[c] for c in text if c in _CHARACTERS]


def voice_ids(gender: str) -> list[int]:
    """Ids of a voice's global tokens."""
    return [IDS[f"<|bicodec_global_{n}|>"] for n in styles.GLOBALS[gender]]


def cloning_prompt(text: str, gender: str) -> list[int]:
    """Up to the token that opens the answer."""
    return [
        *(IDS["<|task_tts|>"], IDS["<|start_content|>"]),
        *text_ids(text),
        *(IDS["<|end_content|>"], IDS["<|start_global_token|>"]),
        *voice_ids(gender),
        IDS["<|end_global_token|>"],
    ]


def controlled_prompt(text: str, gender: str, pitch: int, speed: int) -> list[int]:
    """With levels of pitch and speed, up to the token that opens the answer."""
    return [
        *(IDS["<|task_controllable_tts|>"], IDS["<|start_content|>"]),
        *text_ids(text),
        *(IDS["<|end_content|>"], IDS["<|start_style_label|>"]),
        IDS[f"<|gender_{styles.GENDERS.index(gender)}|>"],
        IDS[f"<|pitch_label_{pitch}|>"],
        IDS[f"<|speed_label_{speed}|>"],
        IDS["<|end_style_label|>"],
    ]


def values_ids(pitch: int, speed: int) -> list[int]:
    """The acoustic values that begin a controlled answer."""
    return [
        IDS["<|start_acoustic_token|>"],
        FIRST_PITCH + pitch,
        IDS[f"<|speed_value_{speed}|>"],
        IDS["<|end_acoustic_token|>"],
    ]


def voice_answer_ids(gender: str) -> list[int]:
    """The voice in a controlled answer."""
    return [IDS["<|start_global_token|>"], *voice_ids(gender), IDS["<|end_global_token|>"]]
