"""A checkpoint as upstream needs it."""

from __future__ import annotations

import json
from pathlib import Path


def readable(tokenizer: str) -> str:
    """A tokenizer.json whose tokens of the codec are text, as in the published file.

    Upstream reads its answer as text, and drops special tokens from it.
    """
    content = json.loads(tokenizer)
    for token in content["added_tokens"]:
        token["special"] = "bicodec" not in token["content"]
    return json.dumps(content)


def their_folder(checkpoint: Path, folder: Path) -> Path:
    """The checkpoint at `folder`, by links, with a tokenizer.json that upstream can read back."""
    for file in checkpoint.glob("**/*"):
        if file.is_file():
            link = folder / file.relative_to(checkpoint)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(file)
    tokenizer = folder / "LLM" / "tokenizer.json"
    text = readable(tokenizer.read_text())
    tokenizer.unlink()
    tokenizer.write_text(text)
    return folder
