"""A model's configuration is an object, or it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.errors import SetupError
from worker.model_files.json_object import read_json


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "LLM" / "file"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def test_an_object_is_read(tmp_path: Path) -> None:
    assert read_json(written(tmp_path, '{"a": "é"}'.encode())) == {"a": "é"}
    assert read_json(written(tmp_path, b"{}")) == {}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[]", "is not a JSON object"),
        (b"null", "is not a JSON object"),
        (b'"text"', "is not a JSON object"),
        (b"", "cannot be read"),
        (b'{"a": ', "cannot be read"),
        (b'{"a": "\xff"}', "cannot be read"),
    ],
)
def test_what_is_no_object_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(SetupError, match=f"^LLM/file {said}"):
        read_json(written(tmp_path, content))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"^LLM/config\.json cannot be read"):
        read_json(tmp_path / "LLM" / "config.json")
    (tmp_path / "LLM" / "config.json").mkdir(parents=True)
    with pytest.raises(SetupError, match=r"^LLM/config\.json cannot be read"):
        read_json(tmp_path / "LLM" / "config.json")


def test_json_that_is_deeper_than_a_parser_goes_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"^LLM/file cannot be read"):
        read_json(written(tmp_path, b"[" * 100_000))
