"""The folders of the alignment models: one a language, on the volume or in the voice model."""

from __future__ import annotations

import logging
from pathlib import Path

from volume.layout import Layout, LayoutError
from worker.logs import event


def find_folders(layout: Layout, checkpoint: Path, languages: str) -> dict[str, Path]:
    """The folder of each of the languages ("en,zh") that is installed.

    A voice model may bring an English aligner that knows its voice, in aligner/; any other is the
    model aligner-LANGUAGE of the volume. What is missing is told in the log.
    """
    folders: dict[str, Path] = {}
    for language in languages.split(","):
        try:
            folders[language] = find_folder(layout, checkpoint, language)
        except LayoutError as error:
            event(
                logging.WARNING,
                "words get estimated times only",
                language=language,
                error=str(error),
            )
    return folders


def find_folder(layout: Layout, checkpoint: Path, language: str) -> Path:
    """The folder of one language. Raises LayoutError where none is installed."""
    own = checkpoint / "aligner"
    return own if language == "en" and own.is_dir() else layout.model(f"aligner-{language}")
