"""The files of a checkpoint: what must be there, and where tensors lie in them."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from worker.errors import SetupError
from worker.speech.checkpoint import Checkpoint, Place, find_tensors, read_extractor

FILES = [
    "config.yaml",
    "LLM/config.json",
    "LLM/tokenizer.json",
    "LLM/model.safetensors",
    "BiCodec/config.yaml",
    "BiCodec/model.safetensors",
    "wav2vec2-large-xlsr-53/config.json",
    "wav2vec2-large-xlsr-53/preprocessor_config.json",
]


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """Only their names count."""
    for name in FILES:
        path = tmp_path / "model@1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "model@1"


def test_a_whole_checkpoint_is_whole(whole: Path) -> None:
    Checkpoint(whole).check()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("instead", ["nothing", "a folder"])
def test_each_file_is_wanted(whole: Path, name: str, instead: str) -> None:
    (whole / name).unlink()
    if instead == "a folder":
        (whole / name).mkdir()
    with pytest.raises(SetupError) as caught:
        Checkpoint(whole).check()
    assert caught.value.message == (
        f"checkpoint model@1 is incomplete, missing: {name}; run: python -m volume verify --repair"
    )


def test_a_processor_stands_for_its_extractor_alone(whole: Path) -> None:
    features = whole / "wav2vec2-large-xlsr-53"
    (features / "preprocessor_config.json").rename(features / "processor_config.json")
    Checkpoint(whole).check()
    (whole / "LLM" / "tokenizer.json").unlink()
    with pytest.raises(SetupError, match=r"missing: LLM/tokenizer\.json; run"):
        Checkpoint(whole).check()


def test_weights_in_several_files_are_refused_with_the_cure(whole: Path) -> None:
    (whole / "LLM" / "model.safetensors.index.json").touch()
    Checkpoint(whole).check()
    (whole / "LLM" / "model.safetensors").unlink()
    with pytest.raises(
        SetupError, match=r"model@1: LLM has its weights in several files.*max_shard_size"
    ):
        Checkpoint(whole).check()


def test_all_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=", ".join(FILES)):
        Checkpoint(tmp_path).check()


# JSON and tensors


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "LLM" / "file"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("processor", "found"),
    [
        (None, {"from": "extractor"}),
        ({"processor_class": "Wav2Vec2Processor"}, {"from": "extractor"}),  # of transformers 4
        ({"feature_extractor": {"from": "processor"}}, {"from": "processor"}),
    ],
)
def test_the_extractor_is_what_transformers_5_would_take(
    tmp_path: Path, processor: dict[str, object] | None, found: dict[str, str]
) -> None:
    (tmp_path / "preprocessor_config.json").write_text('{"from": "extractor"}')
    if processor is not None:
        (tmp_path / "processor_config.json").write_text(json.dumps(processor))
    assert read_extractor(tmp_path) == found
    (tmp_path / "preprocessor_config.json").unlink()
    if found == {"from": "extractor"}:
        with pytest.raises(SetupError, match=r"preprocessor_config\.json cannot be read"):
            read_extractor(tmp_path)
    else:
        assert read_extractor(tmp_path) == found


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"^LLM/file cannot be read"):
        find_tensors(tmp_path / "LLM" / "file")
    (tmp_path / "LLM" / "file").mkdir(parents=True)
    with pytest.raises(SetupError, match=r"^LLM/file cannot be read"):
        find_tensors(tmp_path / "LLM" / "file")


# Tensors: 8 bytes that say how long the header is, the header, the numbers


def safetensors(header: object, numbers: bytes = b"", length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + numbers


ENTRY = {"dtype": "BF16", "shape": [2, 3], "data_offsets": [4, 16]}


def test_a_tensor_lies_behind_the_header(tmp_path: Path) -> None:
    header = {"__metadata__": {"format": "pt"}, "a": ENTRY}
    path = written(tmp_path, safetensors(header, bytes(16)))
    begin = 8 + len(json.dumps(header))
    assert find_tensors(path) == {"a": Place("BF16", (2, 3), begin + 4)}


def test_the_bytes_at_its_place_are_the_tensors(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor(7, dtype=torch.int16)}
    path = tmp_path / "file"
    save_file(tensors, path)
    places = find_tensors(path)
    assert {name: place.shape for name, place in places.items()} == {"b": (2, 3), "a": ()}
    assert {name: place.dtype for name, place in places.items()} == {"b": "F32", "a": "I16"}
    content = path.read_bytes()
    assert struct.unpack_from("<6f", content, places["b"].offset) == (0, 1, 2, 3, 4, 5)
    assert struct.unpack_from("<h", content, places["a"].offset) == (7,)


def test_a_file_may_hold_no_tensor(tmp_path: Path) -> None:
    assert find_tensors(written(tmp_path, safetensors({}))) == {}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (safetensors({"a": ENTRY}, bytes(15)), "cut short"),  # by one byte
        (safetensors({"a": ENTRY, "b": ENTRY | {"data_offsets": [0, 999]}}, bytes(16)), "cut s"),
        (safetensors({"a": ENTRY}, bytes(16))[:30], ""),
        (safetensors({}, length=0), "header cannot have 0 bytes"),
        (safetensors({}, length=10), "header cannot have 10 bytes"),
        (safetensors({}, length=1 << 62), f"header cannot have {1 << 62} bytes"),
        (b"", ""),
        (b"<!doctype html><html>not found</html>", ""),
        (safetensors([1]), ""),
        (safetensors(1), ""),
        (safetensors({"a": 1}), ""),
        (safetensors({"a": {"shape": [1]}}), ""),
        (safetensors({"a": {"data_offsets": [0, 4]}}, bytes(4)), ""),
        (safetensors({"a": ENTRY | {"data_offsets": None}}, bytes(16)), ""),
        (safetensors({"a": ENTRY | {"data_offsets": []}}, bytes(16)), ""),
        (struct.pack("<Q", 4) + b"\xff\xff\xff\xff" + bytes(9), ""),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(SetupError, match=f"^LLM/file cannot be read: .*{said}"):
        find_tensors(written(tmp_path, content))


def test_a_header_as_long_as_safetensors_allows_is_not_read_beyond(tmp_path: Path) -> None:
    """Of a file that is that large, and holds nothing: it takes no room on the disk."""
    path = tmp_path / "LLM" / "model.safetensors"
    path.parent.mkdir()
    with path.open("wb") as file:
        file.write((1 << 39).to_bytes(8, "little"))
        file.truncate(1 << 40)
    with pytest.raises(SetupError, match=f"header cannot have {1 << 39} bytes"):
        find_tensors(path)


def test_json_that_is_deeper_than_a_parser_goes_is_named(tmp_path: Path) -> None:
    path = tmp_path / "LLM" / "x"
    path.parent.mkdir()
    path.write_bytes((100_000).to_bytes(8, "little") + b"[" * 100_001)
    with pytest.raises(SetupError, match="LLM/x cannot be read"):
        find_tensors(path)
