"""Configurations are read as omegaconf reads them, or named."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.conftest import REPOSITORY
from worker.errors import SetupError
from worker.speech.codec.yaml_config import YamlConfig

DEMO = REPOSITORY / "volume" / "demo" / "checkpoint"
VALUES = """
numbers: [1e-5, 1E5, -2.5e+3, .5e1, 1_0e2, 1.5, -3, 0x10, 1e, e5, 1.2.3e4]
texts: [yes please, "1e-5", 12:30:00 Uhr]
nothing: null
yes: true
nested: {fsq_levels: [4, 4], sizes: {a: 1}}
"""


@pytest.mark.parametrize("name", ["config.yaml", "BiCodec/config.yaml"])
def test_published_files_are_read_as_by_omegaconf(name: str) -> None:
    expected = OmegaConf.to_container(OmegaConf.load(DEMO / name))
    assert expected
    assert YamlConfig.load(DEMO / name) == expected


def test_values_are_those_of_omegaconf(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(VALUES)
    found = YamlConfig.load(file)
    assert found == OmegaConf.to_container(OmegaConf.load(file))
    assert found["numbers"][0] == 1e-5


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"- a list", "is not a configuration"),
        (b"", "is not a configuration"),
        (b"a: [", "cannot be read"),
        (b"a: \xff", "cannot be read"),
        (b"a: !!python/object/apply:os.getcwd []", "cannot be read"),
        (b"base_config: other.yaml", "names a base_config"),
    ],
)
def test_what_is_of_no_use_is_named(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "BiCodec").mkdir()
    (tmp_path / "BiCodec" / "config.yaml").write_bytes(content)
    with pytest.raises(SetupError, match=rf"^BiCodec/config\.yaml {told}"):
        YamlConfig.load(tmp_path / "BiCodec" / "config.yaml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"config\.yaml cannot be read"):
        YamlConfig.load(tmp_path / "config.yaml")
