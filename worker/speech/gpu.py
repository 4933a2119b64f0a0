"""Whether the GPU and its driver can run this torch."""

from __future__ import annotations

from pathlib import Path

import torch

from worker.errors import SetupError

CAPABILITY = (7, 0)  # Volta: the oldest that torch's wheels for CUDA 12.6 have kernels for
FREE_BYTES = 1 << 30  # that jobs need beside the loaded model


def check_gpu(devices: Path = Path("/dev")) -> None:
    """Raise SetupError where a GPU is there and cannot be used. Without one, the CPU speaks."""
    if not torch.cuda.is_available():
        if (devices / "nvidiactl").exists():
            raise SetupError(
                f"there is a GPU that torch {torch.__version__} cannot use: its driver is too old "
                f"for CUDA {torch.version.cuda}, or torch was built without it; choose hosts with "
                "CUDA 12.6 or newer in the endpoint's settings"
            )
        return
    name = torch.cuda.get_device_name()
    capability = torch.cuda.get_device_capability()
    if capability < CAPABILITY:
        raise SetupError(
            f"{name} has compute capability {capability[0]}.{capability[1]}; "
            f"{CAPABILITY[0]}.{CAPABILITY[1]} or newer is needed"
        )
    free, total = torch.cuda.mem_get_info()
    if free < FREE_BYTES:
        raise SetupError(
            f"{name} has {free >> 20} of {total >> 20} MiB free beside the model; "
            f"{FREE_BYTES >> 20} MiB are needed: choose a larger GPU"
        )
