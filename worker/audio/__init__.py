"""Audio between the stages: `waveform` works on samples in memory, `files` reads and writes.

`spool` keeps what a job has spoken until it is written.
"""

from worker.audio.files import check_reference, read, write, write_blocks, write_samples
from worker.audio.formats import CONTENT_TYPES, Format
from worker.audio.spool import Clip, Spool, laid_out
from worker.audio.waveform import (
    Audio,
    Samples,
    Span,
    Trimmed,
    limit_peak,
    limiting_gain,
    shift,
    trim,
)

__all__ = [
    "CONTENT_TYPES",
    "Audio",
    "Clip",
    "Format",
    "Samples",
    "Span",
    "Spool",
    "Trimmed",
    "check_reference",
    "laid_out",
    "limit_peak",
    "limiting_gain",
    "read",
    "shift",
    "trim",
    "write",
    "write_blocks",
    "write_samples",
]
