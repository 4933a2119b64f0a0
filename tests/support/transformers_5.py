"""A random checkpoint as transformers 5 saves it, beside the same one as 4 saves it.

transformers_5_files/ holds, untouched, what transformers 5.17.0 (torch 2.11.0, tokenizers 0.23.2)
wrote of `make_checkpoint(published, SIZES)`, which had been run with transformers 4.57.6:

    lm, features = published / "LLM", published / "wav2vec2-large-xlsr-53"
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(features)
    tokenizer = AutoTokenizer.from_pretrained(lm)
    Qwen2ForCausalLM.from_pretrained(lm).save_pretrained(saved / lm.name)
    tokenizer.save_pretrained(saved / lm.name)
    Wav2Vec2Model.from_pretrained(features).save_pretrained(saved / features.name)
    Wav2Vec2Processor(extractor, tokenizer).save_pretrained(saved / features.name)

Both model.safetensors had the names and the tensors of transformers 4 to the bit, so they are not
kept here. Left out is also what nobody reads: generation_config.json, tokenizer_config.json and the
processor's own tokenizer.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.random_checkpoint import Sizes

FILES = Path(__file__).parent / "transformers_5_files"
# Heads of 32 channels, which the int8 kernel has; few tokens, so that their file is small.
SIZES = Sizes(hidden=64, heads=2, kv_heads=1, intermediate=64, pitch_values=1)


def save_as_5(checkpoint: Path, folder: Path) -> Path:
    """A checkpoint of SIZES, with its JSON files as transformers 5 saves them, in a new folder."""
    shutil.copytree(checkpoint, folder)
    (folder / "wav2vec2-large-xlsr-53" / "preprocessor_config.json").unlink()
    return Path(shutil.copytree(FILES, folder, dirs_exist_ok=True))
