"""Whether a stranger's checkpoint fits: each reason why not is named, and the embedded one does."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from volume.pins import EMBEDDED
from worker.speech import fit
from worker.speech.fit import lm_shapes, main, misfit_tokens, misfits
from worker.speech.lm.config import LMConfig
from worker.speech.lm.torch_model import LanguageModel
from worker.speech.tensors import Uninitialised
from worker.speech.voice import CodecSizes

DEMO = EMBEDDED / "demo" / "checkpoint"
LM = "LLM/model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The embedded checkpoint, to be changed."""
    return shutil.copytree(DEMO, tmp_path / "checkpoint")


def change(folder: Path, path: str, **values: object) -> None:
    (folder / path).write_text(json.dumps(json.loads((folder / path).read_text()) | values))


def header_only(path: Path) -> None:
    """Leave a file its size and its header, as before a download."""
    data, size = path.read_bytes(), path.stat().st_size
    length = int.from_bytes(data[:8], "little")
    path.write_bytes(data[: 8 + length])
    os.truncate(path, size)


def rewritten(folder: Path, edit: Callable[[dict[str, dict]], object]) -> None:
    data = (folder / LM).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    edit(header)
    again = json.dumps(header).encode()
    (folder / LM).write_bytes(len(again).to_bytes(8, "little") + again + data[8 + length :])


@pytest.mark.parametrize("early", [False, True])
def test_the_embedded_model_fits(folder: Path, early: bool) -> None:
    if early:
        for path in folder.rglob("*.safetensors"):
            header_only(path)
    assert misfits(folder, early=early) == []


def test_early_weights_may_be_missing_and_later_not(folder: Path) -> None:
    for path in folder.rglob("*.safetensors"):
        path.unlink()
    assert misfits(folder, early=True) == []
    assert misfits(folder)


def test_the_shapes_are_those_of_the_model_that_is_loaded() -> None:
    config = LMConfig.read(DEMO / "LLM" / "config.json")
    with Uninitialised():
        state = LanguageModel(config).state_dict()
    assert lm_shapes(config) == {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_tensors_are_named_that_lack_that_are_too_many_and_of_another_shape(folder: Path) -> None:
    def edit(header: dict[str, dict]) -> None:
        header["model.layers.0.lora"] = header.pop("model.norm.weight")
        header["model.layers.1.mlp.down_proj.weight"]["shape"].reverse()

    rewritten(folder, edit)
    lacks, many, other = misfits(folder, early=True)
    assert lacks == f"{LM} lacks norm.weight"
    assert many == f"{LM} has tensors that a Qwen2 decoder has not: layers.0.lora"
    assert other.startswith(
        f"{LM} does not fit LLM/config.json: layers.1.mlp.down_proj.weight is ["
    )


def test_of_many_tensors_five_are_named(folder: Path) -> None:
    change(folder, "LLM/config.json", num_hidden_layers=7)
    (lacks,) = misfits(folder, early=True)
    assert lacks.count(", ") == 4
    assert lacks.endswith(" and 7 more")


def test_weights_of_a_type_that_is_no_float_are_refused(folder: Path) -> None:
    rewritten(folder, lambda header: header["model.norm.weight"].update(dtype="I8"))
    (kind,) = misfits(folder, early=True)
    assert "weights of type I8" in kind


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("LLM/config.json", "[]", "LLM/config.json is not a JSON object"),
        ("LLM/config.json", '{"model_type": "qwen2"}', "LLM/config.json lacks"),
        ("LLM/tokenizer.json", "{", "LLM/tokenizer.json cannot be read"),
        ("BiCodec/config.yaml", "audio_tokenizer: {}", "KeyError"),
        ("config.yaml", "sample_rate: fast", "ValueError"),
        ("wav2vec2-large-xlsr-53/config.json", "{}", "wav2vec2"),
        (LM, "no tensors", f"{LM} cannot be read"),
    ],
)
def test_files_of_any_content_are_reasons_and_no_faults(
    folder: Path, path: str, content: str, reason: str
) -> None:
    (folder / path).write_text(content)
    assert any(reason in line for line in misfits(folder)), misfits(folder)


# Tokens.

SIZES = CodecSizes(voice_length=4, global_codes=4096, semantic_codes=720)
TOKENIZER = DEMO / "LLM" / "tokenizer.json"


def test_a_model_of_one_voice_needs_that_voices_tokens_alone() -> None:
    assert list(misfit_tokens(TOKENIZER, SIZES, 10_000)) == []


def test_tokens_that_lack_are_counted_and_the_first_named(tmp_path: Path) -> None:
    more = CodecSizes(voice_length=4, global_codes=4096, semantic_codes=730)
    (lacks,) = misfit_tokens(TOKENIZER, more, 10_000)
    assert lacks.startswith("LLM/tokenizer.json lacks 10 of the codec's 730 semantic tokens: ")
    assert "<|bicodec_semantic_720|>" in lacks
    shorter = CodecSizes(voice_length=2, global_codes=4096, semantic_codes=720)
    (lacks,) = misfit_tokens(TOKENIZER, shorter, 10_000)
    assert "lacks 4092 of the codec's 4096 global tokens" in lacks


def test_tokens_beyond_the_vocabulary_are_told() -> None:
    (told,) = misfit_tokens(TOKENIZER, SIZES, 100)
    assert told.endswith("and LLM/config.json a vocabulary of 100")
    last = int(told.removeprefix("LLM/tokenizer.json has tokens up to ").partition(",")[0])
    assert list(misfit_tokens(TOKENIZER, SIZES, last + 1)) == []
    assert len(list(misfit_tokens(TOKENIZER, SIZES, last))) == 1


# The program.


def test_each_reason_is_a_line_and_the_status_says_whether_there_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    def found(folder: Path, *, early: bool) -> list[str]:
        seen.append((folder, early))
        return ["one\n  of two lines", "another"] if early else []

    monkeypatch.setattr(fit, "misfits", found)
    assert main(["a"]) == 0
    assert main(["a", "--early"]) == 1
    assert seen == [(Path("a"), False), (Path("a"), True)]
    assert capsys.readouterr().out == "does not fit: one of two lines\ndoes not fit: another\n"
