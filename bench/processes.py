"""Case (f): the memory of a process at most."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bench.sides import Sides
from tests.support.worker_process import environment, run


def memory(sides: Sides) -> dict[str, Any]:
    """(f) Resident memory at most, files that are mapped included: load, clone, speak."""
    sides.unload()
    material, scale = sides.material, sides.scale
    found: dict[str, Any] = {}
    for side in ("theirs", "ours"):
        done = run(
            *("-m", "bench.speaker", side, str(material.checkpoint)),
            *(str(material.reference), str(scale.long_tokens), sides.device, sides.dtype),
            env=compiling(environment(material.volume)),
        )
        if done.returncode:
            raise RuntimeError(f"{side}: {done.stderr}")
        found[side] = json.loads(done.stdout.splitlines()[-1])
    share = found["ours"]["peak"] / found["theirs"]["peak"]
    return {
        "theirs": round(found["theirs"]["peak"] / 2**20),
        "ours": round(found["ours"]["peak"] / 2**20),
        "share": round(share, 3),
        "processes": found,
    }


def compiling(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that keeps bytecode, as installed packages have it."""
    return {name: value for name, value in env.items() if name != "PYTHONDONTWRITEBYTECODE"}
