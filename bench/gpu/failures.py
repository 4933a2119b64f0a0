"""What fails must fail alone: too little memory, logits that are no numbers."""

from __future__ import annotations

import torch

from bench.gpu import inside
from bench.gpu.bench import Bench, Found
from bench.ours import exactly
from bench.sentences import sentences

LEFT = (2 << 30, 256 << 20)  # bytes: as on a GPU of 16 GB, then nearly nothing


def memory(bench: Bench) -> Found:
    """Jobs where only so much of the GPU's memory is left, and afterwards."""
    if not bench.on_gpu:
        return {"missing": "a GPU's memory"}
    ours = bench.ours
    total = torch.cuda.get_device_properties(0).total_memory
    found: Found = {"answered": []}
    for left in LEFT:
        torch.cuda.empty_cache()
        share = min(1.0, (torch.cuda.memory_reserved() + left) / total)
        torch.cuda.set_per_process_memory_fraction(share)
        try:
            spoken = ours.jobs(sentences(32), 120)
            long = ours.decode([i % 90 for i in range(3000)])
            found[f"{left >> 20} MB left"] = {"slots": inside.slots(ours.engine)}
            found["answered"].append(len(spoken) == 32 and len(long) == 3000 * 320)
        except Exception as error:  # the next stage's business, and told of
            found[f"{left >> 20} MB left"] = f"{type(error).__name__}: {str(error)[:200]}"
            found["answered"].append(False)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
    found["answered"].append(len(ours.jobs(sentences(4), 60)) == 4)
    return found


def nan(bench: Bench) -> Found:
    """One of three rows gets NaN for logits: whether the others and the next rows notice.

    On a GPU an index out of range ends the process's use of it for good: so this stage is last.
    """
    engine, voice = bench.ours.engine, bench.ours.voice
    texts, how = sentences(3), exactly(10 * bench.scale.steps, seed=5)

    def answered(poisoned: int | None = None) -> list[tuple[int, ...] | str]:
        asked = inside.submit(engine, texts, voice, how)
        if poisoned is not None:
            inside.poison(engine, asked[poisoned])
        told: list[tuple[int, ...] | str] = []
        for one in asked:
            try:
                told.append(one.answer().tokens)
            except Exception as error:  # what is looked for
                told.append(f"{type(error).__name__}: {str(error)[:200]}")
        return told

    before, during, after = answered(), answered(poisoned=1), answered()
    return {
        "the_row": during[1] if isinstance(during[1], str) else "answered",
        "fails": isinstance(during[1], str),
        "others_the_same": [during[i] == before[i] for i in (0, 2)],
        "afterwards_the_same": [a == b for a, b in zip(after, before, strict=True)],
        "errors": [one for one in during + after if isinstance(one, str)],
    }
