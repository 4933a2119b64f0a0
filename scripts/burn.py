"""Burn subtitles onto a plain frame with ffmpeg's libass: python -m scripts.burn ASS SECONDS PNG.

Nothing of the machine's own fonts is used, so the same file gives the same picture anywhere. ffmpeg
and the font come in the development environment's wheels imageio-ffmpeg and mpl-font.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import ass
import imageio_ffmpeg

FONT = "Noto Sans CJK SC"  # Latin and Chinese
BACKGROUND = "0x204060"


def fonts() -> Path:
    """The folder of the font; its package wants matplotlib and is not imported."""
    package = find_spec("mpl_font")
    if package is None or package.origin is None:
        raise RuntimeError("the wheel mpl-font is missing: make install")
    return Path(package.origin).parent / "fonts" / "noto"


def ffmpeg(*arguments: str, environment: dict[str, str] | None = None) -> bytes:
    """What ffmpeg writes on standard output. Raises RuntimeError with its complaint."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", *arguments]
    done = subprocess.run(  # noqa: S603 - our own arguments
        command, capture_output=True, check=False, env={**os.environ, **(environment or {})}
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace"))
    return done.stdout


def burn(subtitles: Path, seconds: float, picture: Path) -> None:
    """Write a PNG of the frame at `seconds`, in the size that the ASS file is made for."""
    with subtitles.open(encoding="utf-8") as file:
        document = ass.parse_file(file)
    size = f"{document.play_res_x}x{document.play_res_y}"
    with TemporaryDirectory() as folder:
        settings = Path(folder) / "fonts.conf"
        settings.write_text(
            '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>'
            f"<dir>{fonts()}</dir><cachedir>{folder}</cachedir></fontconfig>"
        )
        ffmpeg(
            *("-f", "lavfi", "-i", f"color={BACKGROUND}:s={size}:r=50:d={seconds + 0.1:.3f}"),
            *("-vf", f"subtitles={subtitles}", "-ss", f"{seconds:.3f}", "-frames:v", "1"),
            *("-y", str(picture)),
            environment={"FONTCONFIG_FILE": str(settings)},
        )


if __name__ == "__main__":
    burn(Path(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]))
