"""Audio between the stages: `waveform` works on samples in memory, `files` reads and writes."""

from worker.audio.files import (
    CONTENT_TYPES,
    Format,
    check_reference,
    read,
    write,
    write_samples,
)
from worker.audio.waveform import (
    Audio,
    Joined,
    Samples,
    Span,
    Trimmed,
    join,
    limit_peak,
    shift,
    trim,
)

__all__ = [
    "CONTENT_TYPES",
    "Audio",
    "Format",
    "Joined",
    "Samples",
    "Span",
    "Trimmed",
    "check_reference",
    "join",
    "limit_peak",
    "read",
    "shift",
    "trim",
    "write",
    "write_samples",
]
