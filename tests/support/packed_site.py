"""A small environment and its start pack, as a recording of a start would give it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import _cffi_backend

from volume.start_pack.pack import NAME, Index
from volume.start_pack.packing import pack
from volume.start_pack.recording import Library, Recording

MODULES = {
    "parcel/__init__.py": "from parcel import paper\n\nWEIGHT = paper.WEIGHT + 1\n",
    "parcel/paper.py": "WEIGHT = 41\n\n\ndef fail():\n    raise ValueError(WEIGHT)\n",
    "parcel/unread.py": "WEIGHT = 7\n",
    "parcel/data.txt": "forty-two\n",
    "loose.py": "import parcel.paper\n",
    "open_air/tent.py": "PEGS = 4\n",
}
UNRECORDED = ("parcel/unread.py", "parcel/data.txt")
EXTENSION = "parcel/_cffi_backend.so"  # a real one, whose name its module must have


@dataclass(frozen=True)
class PackedSite:
    """The environment's modules, and the pack of those that a start would read."""

    site: Path
    folder: Path  # the pack's
    index: Index

    @property
    def file(self) -> Path:
        return self.folder / NAME


def packed_site(folder: Path, key: str = "key") -> PackedSite:
    """Make both below `folder`."""
    site = folder / "site-packages"
    for path, text in MODULES.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
    shutil.copyfile(_cffi_backend.__file__, site / EXTENSION)
    place = folder / "starts" / key
    place.mkdir(parents=True)
    index = pack(recording_of(site), site, key, place / NAME)
    return PackedSite(site, place, index)


def recording_of(site: Path) -> Recording:
    """What a start would have read that imports all but what is UNRECORDED."""
    sources = [f"{site}/{path}" for path in MODULES if path not in UNRECORDED]
    library = f"{site}/{EXTENSION}"
    size = Path(library).stat().st_size
    return Recording(
        opened=(*sources, "/elsewhere/module.py"),
        modules=(*sources, "/elsewhere/module.py"),
        extensions=(library,),
        loaded_by_path=(),
        libraries=(Library(library, ((0, size),)), Library("/lib/libc.so.6", ((0, 4096),))),
    )
