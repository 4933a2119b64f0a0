"""Files of tensors are mapped as they are, and named where they are of no use."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.support.small_tensors import TENSORS
from worker.errors import SetupError
from worker.model_files.tensors import map_pickle, map_tensors
from worker.speech.tensors import read_tensors

CPU = torch.device("cpu")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "LLM").mkdir()
    return tmp_path / "LLM" / "weights"


def mapped(tensors: dict[str, Tensor]) -> None:
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == TENSORS[name].dtype
        assert torch.equal(tensor, TENSORS[name])


def test_tensors_are_mapped_as_they_lie(file: Path) -> None:
    save_file(TENSORS, file)
    mapped(map_tensors(file))
    torch.save(TENSORS, file)
    mapped(map_pickle(file))


def test_a_file_of_torch_before_1_6_is_read(file: Path) -> None:
    torch.save(TENSORS, file, _use_new_zipfile_serialization=False)
    mapped(map_pickle(file))


@pytest.mark.parametrize(
    ("write", "read"),
    [
        (save_file, map_tensors),
        (save_file, lambda path: read_tensors(path, torch.float32, CPU)),
        (torch.save, map_pickle),
        (partial(torch.save, _use_new_zipfile_serialization=False), map_pickle),
    ],
)
def test_a_file_that_is_no_use_is_named(
    file: Path,
    write: Callable[[dict[str, Tensor], Path], None],
    read: Callable[[Path], dict[str, Tensor]],
) -> None:
    def refused() -> None:
        with pytest.raises(SetupError, match=r"^LLM/weights cannot be read: ."):
            read(file)

    refused()  # it is not there
    write(TENSORS, file)
    content = file.read_bytes()
    for kept in (0, 5, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:kept])
        refused()
    file.write_bytes(b"<!doctype html><html>not found</html>")
    refused()


class Code:
    """Says when it is called."""

    called: list[str] = []  # noqa: RUF012 - pickle knows it by its name

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return Code.called.append, ("called",)


@pytest.mark.parametrize("write", [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x))])
def test_a_pickle_runs_no_code(file: Path, write: Callable[[object, Path], None]) -> None:
    write({"a": torch.ones(1), "b": Code()}, file)
    Code.called.clear()
    with pytest.raises(SetupError, match="LLM/weights cannot be read"):
        map_pickle(file)
    assert Code.called == []
