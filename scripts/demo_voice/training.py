"""What all three trainings share: optimisers, averaged weights, a state that survives any kill."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scripts.demo_voice.progress import Progress

SAVED_EVERY = 90.0  # seconds
LOSSES = 5  # steps of which one mean is kept
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal by Newton-Schulz steps (Keller Jordan, 2024); for matrices."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override] # without a closure
        """One update."""
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                average = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update = _orthogonal(parameter.grad.lerp(average, group["momentum"]))
                rows, columns = parameter.shape
                parameter.mul_(1 - group["lr"] * 0.01)
                parameter.add_(update, alpha=-group["lr"] * max(1, rows / columns) ** 0.5)


def _orthogonal(gradient: Tensor, steps: int = 5) -> Tensor:
    x = gradient / (gradient.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(steps):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if tall else x


class Training:
    """A model, its optimisers, and how far they are: `done` of `total`, in the training's unit.

    It moves the model to the GPU where there is one; batches have to be there too.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        model: nn.Module,
        optimizers: list[torch.optim.Optimizer],
        total: float,
        average: float = 0.998,
    ) -> None:
        self.model, self.optimizers, self.total = model.to(DEVICE), optimizers, total
        self.done, self.steps = 0.0, 0
        self.losses: list[float] = []  # means of a few steps each
        self._recent: list[float] = []
        self._path, self._decay = path, average
        self._rates = [[g["lr"] for g in optimizer.param_groups] for optimizer in optimizers]
        self.average = {n: t.detach().clone() for n, t in model.state_dict().items()}
        self._saved = time.monotonic()
        self._stopped = False
        if path.exists():
            self._load(torch.load(path, weights_only=True, map_location=DEVICE))
        self.progress = Progress(name, total, self.done)
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, *_: Any) -> None:
        self._stopped = True

    @property
    def share(self) -> float:
        """0 at the start, 1 at the end."""
        return self.done / self.total

    @property
    def over(self) -> bool:
        """Whether there is nothing more to do, or the process was asked to end."""
        return self._stopped or self.done >= self.total

    def update(self, loss: Tensor, amount: float, note: str, clip: float = 1.0) -> None:
        """One step down the gradient; a state on the disk now and then."""
        if not bool(loss.detach().isfinite()):
            raise FloatingPointError(f"the loss is {float(loss.detach())} at step {self.steps}")
        rate = min(1.0, (self.steps + 1) / 100)
        if self.share > 0.6:
            rate *= max(0.02, (1 - self.share) / 0.4)
        for optimizer, rates in zip(self.optimizers, self._rates, strict=True):
            for group, full in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = full * rate
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch's
        nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        for optimizer in self.optimizers:
            optimizer.step()
        self.steps += 1
        self.done += amount
        self._recent.append(float(loss.detach()))
        if len(self._recent) == LOSSES:
            self.losses.append(sum(self._recent) / LOSSES)
            self._recent = []
        decay = min(self._decay, self.steps / (self.steps + 20))
        with torch.no_grad():
            for name, tensor in self.model.state_dict().items():
                if tensor.is_floating_point():
                    self.average[name].lerp_(tensor, 1 - decay)
        self.progress.step(amount, note)
        if self.over or time.monotonic() - self._saved > SAVED_EVERY:
            self.save()

    def save(self) -> None:
        """Write all of it; whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "done": self.done,
            "steps": self.steps,
            "losses": self.losses,
        }
        new = self._path.with_suffix(".new")
        torch.save(state, new)
        new.rename(self._path)
        self._saved = time.monotonic()

    def _load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.average = state["average"]
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.done, self.steps = state["done"], state["steps"]
        self.losses = state.get("losses", [])


def on_device(array: np.ndarray) -> Tensor:
    """The array as a tensor where the models are."""
    return torch.from_numpy(array).to(DEVICE)


def averaged(path: Path) -> dict[str, Tensor]:
    """The averaged weights of a training's state."""
    state: dict[str, Tensor] = torch.load(path, weights_only=True, map_location="cpu")["average"]
    return state


def learned(path: Path) -> float:
    """The last loss of a training's state as a share of its first."""
    losses: list[float] = torch.load(path, weights_only=True, map_location="cpu")["losses"]
    return losses[-1] / losses[0]
