"""Names of what is sent in place of a recording that is read, by how the file begins."""

from __future__ import annotations

HEAD_BYTES = 512

# Place, bytes, name. Those of several begin alike: the longer ones first.
_BEGINNINGS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"#EXTM3U", "a playlist (M3U)"),
    (0, b"#EXT-X-", "a playlist (M3U)"),
    (0, b"[playlist]", "a playlist (PLS)"),
    (0, b"ffconcat", "a list of files"),
    (0, b"v=0\r", "a description of a session (SDP)"),
    (0, b"v=0\n", "a description of a session (SDP)"),
    (0, b"<?xml", "a page or playlist in XML"),
    (0, b"<MPD", "a playlist (DASH)"),
    (0, b"<html", "a web page"),
    (0, b"<HTML", "a web page"),
    (0, b"<!doctype html", "a web page"),
    (0, b"<!DOCTYPE", "a web page"),
    (0, b"{", "JSON"),
    (0, b"%PDF", "a PDF"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"\x89PNG", "a picture (PNG)"),
    (0, b"\xff\xd8\xff", "a picture (JPEG)"),
    (0, b"GIF8", "a picture (GIF)"),
    (8, b"WEBP", "a picture (WebP)"),
    (4, b"ftypheic", "a picture (HEIC)"),
    (4, b"ftypavif", "a picture (AVIF)"),
    (8, b"AVI ", "an AVI film"),
    (8, b"RMID", "MIDI notes"),
    (0, b"MThd", "MIDI notes"),
    (0, b"FLV", "an FLV film"),
    (0, b"\x00\x00\x01\xba", "an MPEG film (PS)"),
    (0, b"\x06\x0e\x2b\x34", "an MXF film"),
    (0, b".RMF", "RealMedia"),
    (0, b".ra\xfd", "RealAudio"),
    (0, b"\x0b\x77", "AC-3"),
    (0, b"\x7f\xfe\x80\x01", "DTS"),
    (0, b"ADIF", "AAC in ADIF"),
    (0, b"#!SILK", "SILK"),
    (0, b"\x02#!SILK", "SILK"),
    (0, b"wvpk", "WavPack"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"TTA1", "True Audio"),
    (0, b"TTA2", "True Audio"),
    (0, b"MPCK", "Musepack"),
    (0, b"MP+", "Musepack"),
    (0, b"OFR ", "OptimFROG"),
    (0, b"DSD ", "DSD"),
    (0, b"FRM8", "DSD"),
    (0, b"tBaK", "TAK"),
    (0, b"ajkg", "Shorten"),
)
_TRANSPORT_PACKET = 188  # bytes of MPEG's transport stream; each begins with the letter G


def name_of(head: bytes) -> str | None:
    """The name of the kind of file that begins so, HEAD_BYTES of it; None where it is not known."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for place, begin, name in _BEGINNINGS:
        if head[place:].startswith(begin) or (place == 0 and text.startswith(begin)):
            return name
    if head[:1] == b"G" and head[_TRANSPORT_PACKET : _TRANSPORT_PACKET + 1] == b"G":
        return "an MPEG transport stream (TS)"
    return "a text" if _is_text(head) else None


def _is_text(head: bytes) -> bool:
    """Whether all of it can be read: a list of files, an address, a message of an error."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < HEAD_BYTES - 3:  # else it is a character that the head's end cuts
            return False
        text = head[: error.start].decode()
    return bool(text) and all(letter.isprintable() or letter.isspace() for letter in text)
