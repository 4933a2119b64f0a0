"""Which folder the aligner of a language is in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.events import Events
from volume.layout import Layout, pinned_revision
from worker.timing.model_folders import find_folders


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "volume")


def install(layout: Layout, language: str) -> Path:
    name = f"aligner-{language}"
    folder = layout.models / f"{name}@{pinned_revision(name) or 'r1'}"
    folder.mkdir(parents=True)
    return folder


def checkpoint(tmp_path: Path, *, own: bool) -> Path:
    folder = tmp_path / "checkpoint"
    (folder / "aligner" if own else folder).mkdir(parents=True)
    return folder


def test_each_language_has_its_folder_on_the_volume(tmp_path: Path, layout: Layout) -> None:
    folders = {language: install(layout, language) for language in ("en", "zh")}
    voice = checkpoint(tmp_path, own=False)
    assert find_folders(layout, voice, "en,zh") == folders
    assert find_folders(layout, voice, "zh") == {"zh": folders["zh"]}


def test_a_voice_s_own_aligner_is_for_english_alone(tmp_path: Path, layout: Layout) -> None:
    install(layout, "en")
    chinese = install(layout, "zh")
    voice = checkpoint(tmp_path, own=True)
    found = find_folders(layout, voice, "en,zh")
    assert found == {"en": voice / "aligner", "zh": chinese}


def test_a_file_of_that_name_is_no_aligner(tmp_path: Path, layout: Layout) -> None:
    english = install(layout, "en")
    voice = checkpoint(tmp_path, own=False)
    (voice / "aligner").write_text("")
    assert find_folders(layout, voice, "en") == {"en": english}


@pytest.mark.parametrize("languages", ["en,zh", "zh,en"])
def test_a_language_that_is_not_installed_is_told_and_the_others_are_found(
    tmp_path: Path, layout: Layout, events: Events, languages: str
) -> None:
    english = install(layout, "en")
    found = find_folders(layout, checkpoint(tmp_path, own=False), languages)
    assert found == {"en": english}
    ((level, name, fields),) = events.with_levels()
    assert (level, name) == ("WARNING", "words get estimated times only")
    assert fields["language"] == "zh"
    assert "volume install --model aligner-zh" in fields["error"]
