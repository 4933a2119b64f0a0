"""A wheel on a server, read without downloading it: its METADATA and its size when unpacked."""

from __future__ import annotations

import http.client
import io
import urllib.request
import zipfile
from dataclasses import dataclass
from email.parser import HeaderParser

from volume.errors import DownloadError


@dataclass(frozen=True)
class WheelFacts:
    """A wheel's own metadata: its requirements, and its `unpacked` size in bytes."""

    requires: tuple[str, ...]
    unpacked: int


class RangeReader(io.RawIOBase):
    """A seekable, read-only file behind HTTP range requests (RFC 9110, section 14)."""

    def __init__(self, url: str, size: int) -> None:
        self._url = url
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """Say that this can be read."""
        return True

    def seekable(self) -> bool:
        """Say that this can be positioned."""
        return True

    def tell(self) -> int:
        """Return the position of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to `offset` bytes from the start, the position or the end."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    # typeshed asks for collections.abc.Buffer, which Python 3.11 does not have.
    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill `buffer` from the position on.

        Raises DownloadError when the server ignores ranges or does not answer: of an OSError
        zipfile would make "File is not a zip file".
        """
        end = min(self._position + len(buffer), self._size)
        if end <= self._position:
            return 0
        request = urllib.request.Request(  # noqa: S310 - the index's own https links
            self._url, headers={"Range": f"bytes={self._position}-{end - 1}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                if answer.status != 206:
                    raise DownloadError(
                        f"{self._url}: no range requests here (HTTP {answer.status})"
                    )
                data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise DownloadError(f"{self._url}: {error}") from None
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def content_length(url: str) -> int:
    """Return the size of the file at `url`, for an index that does not tell it."""
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - the index's own link
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return int(answer.headers["Content-Length"])


def read_wheel(url: str, size: int) -> WheelFacts:
    """Read the metadata of the wheel of `size` bytes at `url` with a few range requests."""
    with zipfile.ZipFile(io.BufferedReader(RangeReader(url, size), 1 << 16)) as wheel:
        return facts_of(wheel)


def facts_of(wheel: zipfile.ZipFile) -> WheelFacts:
    """Read the metadata of an open wheel."""
    (name,) = [
        n for n in wheel.namelist() if n.endswith(".dist-info/METADATA") and n.count("/") == 1
    ]
    headers = HeaderParser().parsestr(wheel.read(name).decode())
    return WheelFacts(
        requires=tuple(headers.get_all("Requires-Dist", [])),
        unpacked=sum(entry.file_size for entry in wheel.infolist()),
    )
