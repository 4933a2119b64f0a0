"""`make lock` against an index of our own: what it writes can be installed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.faulty_http import sha256
from tests.support.index_server import index_of, make_wheel
from tests.support.volume_world import World
from volume.__main__ import find_uv
from volume.pinning.environment import pin_environment

SOURCE = """
python = "3.11"
platform = "x86_64-manylinux_2_28"
requirements = ["top==1.5", "fast==2.0"]
overrides = ["middle"]
[excluded]
unwanted = "a command line"
[[wheel]]
url = "{url}/outside/fast-2.0%2Bcu1-py3-none-any.whl"
sha256 = "{sha256}"
unpacked = 1000
requires = ["bottom"]
"""


def test_a_lock_is_resolved_read_from_the_wheels_and_installed(
    small_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    module = {"m.py": b"HERE = 1\n"}
    wheels = [
        make_wheel("top", "1.5", {"top.py": b""}, requires=("middle[extra]>=1", "unwanted")),
        make_wheel("middle", "1.0", module, requires=('never; extra == "extra"', "bottom<3")),
        make_wheel("bottom", "2.0", {"bottom.py": b"HERE = 2\n" * 9000}),
    ]
    fast = make_wheel("fast", "2.0", {"fast.py": b""}, local="+cu1", requires=("bottom",))
    index = index_of(wheels, [fast])
    with index.running():
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"{index.url}/simple/")
        monkeypatch.setenv("UV_NO_CONFIG", "1")
        source = tmp_path / "environment.toml"
        source.write_text(SOURCE.format(url=index.url, sha256=sha256(fast.data)))
        pins = tmp_path / "made"
        pins.mkdir()
        (pins / "models.json").write_text('{"models": {}}')
        pin_environment(find_uv(), source, pins / "environment.json")

        lock = {w["name"]: w for w in json.loads((pins / "environment.json").read_text())["wheels"]}
        assert lock.keys() == {"top", "middle", "bottom", "fast"}
        assert lock["top"]["requires"] == ["middle[extra]>=1", "unwanted"]
        assert lock["bottom"]["path"] == f"files/{wheels[2].path}"
        assert lock["bottom"]["size"] == len(wheels[2].data)
        assert lock["bottom"]["unpacked"] == wheels[2].unpacked
        assert lock["fast"]["sha256"] == sha256(fast.data)
        assert index.url not in json.dumps([w for w in lock.values() if "url" not in w])

        here = replace(small_world, index=index, pins=pins)
        here.installed("--environment")
        assert here.volume("verify") == (0, "clean: environment\n")


def test_a_stated_wheel_that_nothing_asks_for_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    index = index_of([make_wheel("top", "1.5", {"top.py": b""})], [])
    with index.running():
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"{index.url}/simple/")
        source = tmp_path / "environment.toml"
        text = SOURCE.format(url=index.url, sha256="0" * 64).replace(', "fast==2.0"', "")
        source.write_text(text)
        with pytest.raises(ValueError, match=r"resolved without: fast-2\.0"):
            pin_environment(find_uv(), source, tmp_path / "environment.json")
