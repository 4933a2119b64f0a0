"""Temporary folders: those of killed processes are removed, and no others."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from worker.errors import SetupError
from worker.temp_folders import check_temp_folder, remove_abandoned_folders, temp_prefix


@pytest.mark.slow("starts a process")
def test_folders_of_killed_workers_are_swept_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gone = subprocess.Popen(["true"])
    gone.wait()
    kept = [f"spark-tts-{os.getppid()}-a", "spark-tts-notes", "other"]
    swept = [f"spark-tts-{gone.pid}-a", f"{temp_prefix()}old"]
    for name in kept + swept:
        (tmp_path / name).mkdir()
        (tmp_path / name / "speech.wav").touch()
    remove_abandoned_folders()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_a_folder_whose_name_has_no_process_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("spark-tts-my-notes", f"other-{os.getpid()}-a"):
        (tmp_path / name).mkdir()
    remove_abandoned_folders()
    assert len(list(tmp_path.iterdir())) == 2
    assert temp_prefix() == f"spark-tts-{os.getpid()}-"


def test_where_no_folder_can_be_written_the_operator_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "gone")])
    with pytest.raises(SetupError, match="no folder for temporary files can be written"):
        check_temp_folder()
