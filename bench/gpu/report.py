"""Where the check ran, and what it says: file names, JSON, a table in Markdown."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from bench.gpu import figures
from bench.gpu.inside import flash_version
from tests.support.worker_process import REPOSITORY

Results = Mapping[str, Any]
# What is the same of two runs whose stages may stand in one report.
SAME = ("card", "driver", "torch", "commit", "changed", "flash_attn")


def machine(device: str) -> dict[str, Any]:
    """Card, driver, versions, commit."""
    found = {
        "card": "cpu",
        "driver": "none",
        "torch": torch.__version__,
        "cuda": torch.version.cuda or "none",
        "cudnn": "none",
        "flash_attn": flash_version() or "none",
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "commit": commit(),
        "changed": "COMMIT" not in os.environ
        and bool(_said("git", "status", "--porcelain", "--", "worker", "bench")),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "time": dt.datetime.now(dt.UTC).strftime("%H:%M"),
    }
    if device == "cuda":
        about = torch.cuda.get_device_properties(0)
        found |= {
            "card": about.name,
            "driver": _driver(),
            "cudnn": torch.backends.cudnn.version(),
            "memory_mb": about.total_memory >> 20,
            "multiprocessors": about.multi_processor_count,
            "capability": f"{about.major}.{about.minor}",
        }
    return found


def commit() -> str:
    """Its short name: COMMIT where that is set, as for files that were carried; or unknown."""
    return os.environ.get("COMMIT") or _said("git", "rev-parse", "--short", "HEAD") or "unknown"


def _driver() -> str:
    query = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return _said(*query).partition("\n")[0] or "unknown"


def _said(*command: str) -> str:
    """What a program prints; nothing where it is not there or fails."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def file_name(about: Mapping[str, Any], scale: str) -> str:
    """Without its ending, such as h100-torch2.11-1a2b3c4; a smaller scale is named after it."""
    release = ".".join(about["torch"].split(".")[:2])
    name = f"{_short(about['card'])}-torch{release}-{about['commit']}"
    return name if scale == "full" else f"{name}-{scale}"


def _short(card: str) -> str:
    """ "NVIDIA H100 80GB HBM3" -> h100; "NVIDIA GeForce RTX 4090" -> rtx-4090."""
    words = re.sub(r"\d+GB.*", "", card).replace("-", " ").split()
    kept = [word for word in words if word not in {"NVIDIA", "GeForce", "Tesla", "Generation"}]
    return re.sub(r"[^a-z0-9]+", "-", " ".join(kept).lower()).strip("-") or "unknown"


def write(results: Results, out: Path) -> Path:
    """Both files into `out`, each whole or not at all; the path of the JSON."""
    out.mkdir(parents=True, exist_ok=True)
    name = file_name(results["machine"], results["scale"])
    for ending, text in ((".json", json.dumps(results, indent=1) + "\n"), (".md", table(results))):
        file = out / (name + ending)
        part = file.with_name(file.name + ".part")
        part.write_text(text, encoding="utf-8")
        part.replace(file)
    return out / f"{name}.json"


def stages_there(results: Results, out: Path) -> dict[str, Any]:
    """Those of the report that is in `out` already, of the same card, torch, commit and scale."""
    file = out / f"{file_name(results['machine'], results['scale'])}.json"
    if not file.is_file():
        return {}
    there = json.loads(file.read_text(encoding="utf-8"))
    same = all(there["machine"][name] == results["machine"][name] for name in SAME)
    return dict(there["stages"]) if same else {}


def table(results: Results) -> str:
    """The run's figures, marks and stages as Markdown."""
    sections = (
        figures.table(results),
        figures.marks(results),
        [("stage", "seconds", "outcome")]
        + [
            (name, f"{stage['seconds']:.1f}", _cell(stage["outcome"]))
            for name, stage in results["stages"].items()
        ],
    )
    lines = [f"# GPU check: {results['machine']['card']}, {results['scale']} scale", ""]
    lines += [figures.about(results)]
    for rows in sections:
        lines += ["", *figures.markdown(rows)]
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|")[:200]
