"""Layers of a package are built with plain weights, in one thread and for as long as asked."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest

from worker.speech.codec.weight_norm import built_folded


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Makes modules that have a weight_norm."""

    def made(name: str) -> ModuleType:
        module = ModuleType(name)
        module.weight_norm = lambda layer: ("normed", name, layer)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return made


def test_a_packages_modules_build_plain_layers_for_as_long_as_asked(
    package: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, second = package("some_speech.blocks.layers"), package("some_speech.wave")
    others = package("some_speech_of_others.layers"), package("other.some_speech.layers")
    bare = ModuleType("some_speech.bare")
    monkeypatch.setitem(sys.modules, bare.__name__, bare)
    with built_folded("some_speech"):
        assert ours.weight_norm(1) == second.weight_norm(1) == 1
        for other in others:
            assert other.weight_norm(1) == ("normed", other.__name__, 1)
        assert not hasattr(bare, "weight_norm")
    for module in (ours, second):
        assert module.weight_norm(1) == ("normed", module.__name__, 1)


def test_a_build_that_fails_leaves_the_package_as_it_was(
    package: Callable[[str], ModuleType],
) -> None:
    ours = package("some_speech.wave")

    def build() -> None:
        with built_folded("some_speech"):
            raise KeyError

    with pytest.raises(KeyError):
        build()
    assert ours.weight_norm(1) == ("normed", "some_speech.wave", 1)


def test_another_thread_builds_with_factors_meanwhile(
    package: Callable[[str], ModuleType],
) -> None:
    ours = package("some_speech.wave")
    with built_folded("some_speech"), ThreadPoolExecutor(1) as beside:
        assert ours.weight_norm(1) == 1
        assert beside.submit(ours.weight_norm, 1).result() == ("normed", "some_speech.wave", 1)
        with built_folded("some_speech"):
            pass
        assert ours.weight_norm(1) == 1
    assert ours.weight_norm(1) == ("normed", "some_speech.wave", 1)
