"""The device by itself, and the worker's start on it."""

from __future__ import annotations

import torch

from bench.gpu import inside
from bench.gpu.bench import Bench, Found

NODES = 1000  # of the graph whose launch is timed


def speed(bench: Bench) -> Found:
    """How fast memory is copied, and how long a node of a CUDA graph takes that does nothing."""
    found: Found = {"copied_gb_a_second": round(bench.copied_a_second / 1e9, 1)}
    if bench.on_gpu:
        found["microseconds_a_node"] = bench.median(_small_graph().replay)  # ms for 1000
    return found


def _small_graph() -> torch.cuda.CUDAGraph:
    x = torch.zeros(64, device="cuda").add_(1)  # its kernel is loaded before it is captured
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(NODES):
            x.add_(1)
    return graph


def start(bench: Bench) -> Found:
    """`Engine.load`, twice: seconds, memory, and what its captured steps take of both."""
    bench.checkpoint.stat()  # made before anything is timed
    found: Found = {"make_s": bench.took["make"], "load_s": [], "gpu_mb": []}
    for _ in range(2):
        bench.unload()
        free = bench.free_memory()
        engine = bench.ours.engine
        found["load_s"].append(bench.took["load"])
        found["gpu_mb"].append((free - bench.free_memory()) >> 20)
    found |= {"kind": bench.ours.kind, "slots": inside.slots(engine)}
    found["graphs"] = len(inside.captured(engine))
    free = bench.free_memory()
    found["capture_again_s"] = bench.seconds(lambda: inside.capture_again(engine))
    found["capture_again_mb"] = (free - bench.free_memory()) >> 20
    return found
