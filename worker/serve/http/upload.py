"""A form with a file, multipart/form-data, read onto the disk as it comes.

The size of the whole body and the time in which it must arrive are limits.py's; here its parts are
counted and bounded, so that a body within those limits cannot cost more than its bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from worker.errors import RequestError
from worker.redaction import redact
from worker.serve.http.answers import MediaTypeError

if TYPE_CHECKING:  # it is there for type checkers alone
    from python_multipart.multipart import MultipartCallbacks

MAX_HEADERS = 8  # of a part
MAX_HEADER_BYTES = 1_000  # of each
MAX_FIELD_BYTES = 16_000  # the longest transcript in four bytes a character, and twice as much


@dataclass
class Form:
    """What a form brought: its texts by name, and its file."""

    file: Path | None = None
    texts: dict[str, str] = field(default_factory=dict)


async def read_form(
    request: Request, folder: Path, *, texts: Collection[str], files: Collection[str]
) -> Form:
    """Read the form of a request; its one file goes into `folder`.

    `texts` are the fields that it may have, `files` the names that the file may go by. Raises
    RequestError for what is no such form.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise MediaTypeError(
            "the body must be a form, multipart/form-data, with the recording in the field "
            f"{next(iter(files))}",
            field=next(iter(files)),
        )
    reader = _Reader(folder / "upload", texts, files)
    try:
        parser = MultipartParser(
            boundary,
            reader.callbacks(),
            max_header_count=MAX_HEADERS,
            max_header_size=MAX_HEADER_BYTES,
        )
        async for chunk in request.stream():
            if chunk:
                await asyncio.to_thread(parser.write, chunk)
    except FormParserError as error:
        raise RequestError(f"the body is not a form ({error})", field="body") from None
    finally:
        reader.close()
    if not reader.ended:
        raise RequestError("the body ends in the middle of the form", field="body")
    return reader.form


class _Reader:
    """Takes the parts of a form, in order."""

    def __init__(self, path: Path, texts: Collection[str], files: Collection[str]) -> None:
        self.form = Form()
        self.ended = False
        self._path = path
        self._texts = texts
        self._files = files
        self._header = b""
        self._disposition = b""
        self._value = b""
        self._name = ""
        self._text: bytearray | None = None  # of the field that is being read
        self._file: BinaryIO | None = None

    def callbacks(self) -> MultipartCallbacks:
        """What the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._take_header,
            "on_header_value": self._take_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._open,
            "on_part_data": self._take,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        self._header = self._value = self._disposition = b""

    def _take_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _open(self) -> None:
        """Begin a part: only one of each name, and one file, are read."""
        kind, options = parse_options_header(self._disposition)
        self._name = name = options.get(b"name", b"").decode(errors="replace")
        if kind != b"form-data" or not name:
            raise RequestError("a part of the form has no name", field="body")
        if name in self._files:
            if self.form.file is not None:
                raise RequestError(f"{name}: the form brings more than one recording", field=name)
            self.form.file = self._path
            self._file = self._path.open("wb")
        elif name not in self._texts:
            known = ", ".join((*self._files, *self._texts))
            raise RequestError(f"{redact(name)} is not a field of this form; it has {known}")
        elif name in self.form.texts:
            raise RequestError(f"{name}: the form brings it more than once", field=name)
        else:
            self._text = bytearray()

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
        elif self._text is not None:
            self._text += data[start:end]
            if len(self._text) > MAX_FIELD_BYTES:
                raise RequestError(
                    f"{self._name}: has more than {MAX_FIELD_BYTES} bytes", field=self._name
                )

    def _end(self) -> None:
        if self._text is not None:
            try:
                self.form.texts[self._name] = self._text.decode()
            except UnicodeDecodeError:
                raise RequestError(f"{self._name}: is not UTF-8", field=self._name) from None
        self._text = None
        self.close()

    def _finish(self) -> None:
        self.ended = True
