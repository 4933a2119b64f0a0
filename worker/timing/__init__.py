"""When each word of a known text is spoken: WhisperX's forced alignment on the finished audio."""

from worker.timing.aligner import Aligner
from worker.timing.model_folders import find_folders

__all__ = ["Aligner", "find_folders"]
