"""The embedded checkpoint in upstream's own classes, and as the trainings' weights again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen2ForCausalLM, Wav2Vec2ForCTC, Wav2Vec2Model

from scripts.demo_voice import resume
from scripts.demo_voice.export import DEAF, export, export_aligner
from worker.speech.codec.upstream import find_upstream

MOST = 12_000_000  # bytes, with all that belongs to it


def test_upstream_finds_every_tensor_but_those_of_the_network_that_listens(
    demo_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    find_upstream().bicodec.load_from_checkpoint(demo_checkpoint / "BiCodec")
    said = capsys.readouterr().out.splitlines()
    named = [line.partition(": ") for line in said if "tensor" in line.lower()]
    assert {kind for kind, _, _ in named} == {"Missing tensor"}  # and no unexpected one
    assert all(name.startswith((DEAF, "mel_transformer.")) for _, _, name in named)


@pytest.mark.parametrize(
    ("kind", "folder"),
    [
        (Qwen2ForCausalLM, "LLM"),
        (Wav2Vec2Model, "wav2vec2-large-xlsr-53"),
        (Wav2Vec2ForCTC, "aligner"),
    ],
)
def test_transformers_finds_every_tensor(
    demo_checkpoint: Path, kind: type[Qwen2ForCausalLM], folder: str
) -> None:
    _, info = kind.from_pretrained(demo_checkpoint / folder, output_loading_info=True)
    assert not any(info.values()), info


def test_all_of_it_is_small(demo_checkpoint: Path) -> None:
    files = [file for file in demo_checkpoint.parent.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= MOST


@pytest.mark.slow("trains")
def test_training_can_go_on_where_the_checkpoint_stands(
    demo_checkpoint: Path, tmp_path: Path
) -> None:
    for name in ("lm", "decoder", "front_end", "aligner"):
        torch.save({"average": getattr(resume, name)(demo_checkpoint)}, tmp_path / f"{name}.pt")
    export(tmp_path, tmp_path / "again")
    export_aligner(tmp_path, tmp_path / "again" / "aligner")
    files = list(demo_checkpoint.rglob("*.safetensors"))
    assert len(files) == 4  # language model, codec, front end, aligner
    for file in files:
        given = load_file(file)
        again = load_file(tmp_path / "again" / file.relative_to(demo_checkpoint))
        assert given.keys() == again.keys()
        for name, tensor in given.items():
            if name.startswith("postnet."):
                continue  # upstream never calls it; it is not trained
            atol = 2e-3 if "embed_tokens" in name else 1e-4  # the table is a sum of parts
            torch.testing.assert_close(again[name], tensor, rtol=1e-3, atol=atol)
