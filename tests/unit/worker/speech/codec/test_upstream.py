"""Where upstream's modules come from, and that finding them leaves nothing behind."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
import torch

from worker.errors import SetupError
from worker.speech.codec import upstream as upstream_module
from worker.speech.codec.upstream import PACKAGES, _get_at, find_upstream
from worker.stand_ins import StandIns

PARTS = {
    "models/bicodec.py": "BiCodec",
    "modules/encoder_decoder/feat_encoder.py": "Encoder",
    "modules/encoder_decoder/feat_decoder.py": "Decoder",
    "modules/encoder_decoder/wave_generator.py": "WaveGenerator",
    "modules/speaker/speaker_encoder.py": "SpeakerEncoder",
    "modules/vq/factorized_vector_quantize.py": "FactorizedVectorQuantize",
    "utils/file.py": "load_config",
    "utils/audio.py": "load_audio",
}


@pytest.fixture(autouse=True)
def as_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what other tests have imported; and it is all there again afterwards."""
    before = dict(sys.modules)
    for name in list(sys.modules):
        if name.split(".")[0] in {"einx", *PACKAGES} or name == "torch._dynamo":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "modules", sys.modules)
    others = [finder for finder in sys.meta_path if not isinstance(finder, StandIns)]
    monkeypatch.setattr(sys, "meta_path", others)
    yield
    for name in set(sys.modules) - set(before):
        if name.split(".")[0] in {"einx", *PACKAGES}:
            del sys.modules[name]


def packed(folder: Path, package: str, bicodec: str = "") -> None:
    """Upstream's package, by its names; its own __init__ must not be run."""
    (folder / package).mkdir()
    (folder / package / "__init__.py").write_text("raise AssertionError('it takes 5 s')")
    for path, name in PARTS.items():
        file = folder / package / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{bicodec}\nclass {name}:\n    package = {package!r}\n")


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for package in PACKAGES:
        packed(tmp_path, package, "from einx import get_at")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_pinned_commit_goes_before_the_renamed_copy(both: Path) -> None:
    found = find_upstream()
    assert found.package == "sparktts"
    parts = [found.bicodec, found.encoder, found.decoder, found.wave_generator]
    parts += [found.speaker_encoder, found.quantizer, found.load_config, found.load_audio]
    assert [part.__name__ for part in parts] == list(PARTS.values())
    assert {part.package for part in parts} == {"sparktts"}


def test_nothing_false_is_among_the_modules(both: Path) -> None:
    find_upstream()
    assert not {"einx", "torch._dynamo"} & set(sys.modules)
    assert sys.modules["sparktts"].__path__ == [str(both / "sparktts")]


def test_what_was_there_before_stays(both: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = {name: ModuleType(name) for name in ("einx", "torch._dynamo", "sparktts")}
    there["sparktts"].__path__ = [str(both / "sparktts")]
    there["sparktts"].__spec__ = ModuleSpec("sparktts", None, is_package=True)
    for name, module in there.items():
        monkeypatch.setitem(sys.modules, name, module)
    find_upstream()
    assert {name: sys.modules.get(name) for name in there} == there


def test_einops_does_not_bring_torchs_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """einops/_torch_specific.py of 0.8 has this line, and calls it with functions of its own."""
    (tmp_path / "einops").mkdir()
    code = "from torch._dynamo import allow_in_graph\nallow_in_graph(len)\n"
    (tmp_path / "einops" / "__init__.py").write_text(code)
    packed(tmp_path, "sparktts", "import einops")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "einops"]:
        monkeypatch.delitem(sys.modules, name)
    find_upstream()
    assert sys.modules.pop("einops").__file__ == str(tmp_path / "einops" / "__init__.py")
    assert "torch._dynamo" not in sys.modules


def test_a_failed_import_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed(tmp_path, "sparktts", "raise ImportError('broken')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="broken"):
        find_upstream()
    assert not {"einx", "torch._dynamo"} & set(sys.modules)


def test_without_upstream_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_module, "find_spec", lambda _name: None)
    with pytest.raises(SetupError, match=r"sparktts, spark_tts_lib .*install spark-tts-lib"):
        find_upstream()


def test_the_one_expression_of_einx() -> None:
    """out[q, b, n] = books[q, indices[b, n, q]]: each codebook is looked up by its own index."""
    books = torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(1))
    indices = torch.randint(7, (2, 5, 3), generator=torch.Generator().manual_seed(2))
    found = _get_at("q [c] d, b n q -> q b n d", books, indices)
    assert found.shape == (3, 2, 5, 4)
    for q in range(3):
        for b in range(2):
            for n in range(5):
                assert torch.equal(found[q, b, n], books[q, indices[b, n, q]])
    with pytest.raises(SetupError, match="unknown expression: q d -> d q"):
        _get_at("q d -> d q", books, indices)
