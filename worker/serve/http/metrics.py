"""/metrics: what Prometheus reads, under names by its conventions.

A registry of its own: the process's global one is anybody's who imports the library.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.components import Components
from worker.serve.concurrency import host_memory_free
from worker.serve.http.door import Door, State
from worker.serve.http.running import Done

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "spark_tts"
# Seconds. A first byte is wanted within a tenth or two; a long text is spoken for minutes.
_FIRST = (0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2.5, 5, 10)
_STAGES = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 330)
_SENTENCES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
OTHER = "other"  # the route of what no route is for: a stranger's paths are no names of ours


class Metrics:
    """Counts what goes through one door."""

    def __init__(self, door: Door) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            f"{PREFIX}_requests",
            "Requests answered.",
            ["route", "method", "status"],
            registry=registry,
        )
        self._first_byte = Histogram(
            f"{PREFIX}_first_byte_seconds",
            "From a request's head until the first byte of its answer's body.",
            ["route"],
            buckets=_FIRST,
            registry=registry,
        )
        self._stages = Histogram(
            f"{PREFIX}_stage_seconds",
            "Wall time of a request's stages, as the log has them; total is all of it.",
            ["stage"],
            buckets=_STAGES,
            registry=registry,
        )
        self._failures = Counter(
            f"{PREFIX}_failures", "Work that ended with an error.", ["code"], registry=registry
        )
        self._tokens = Counter(
            f"{PREFIX}_tokens", "Tokens that the language model made.", registry=registry
        )
        self._audio = Counter(
            f"{PREFIX}_audio_seconds", "Seconds of speech made.", registry=registry
        )
        self._occupancy = Histogram(
            f"{PREFIX}_batch_occupancy",
            "Sentences spoken at the same time, as the average of a request.",
            buckets=_SENTENCES,
            registry=registry,
        )
        for name, words, value in _GAUGES:
            gauge = Gauge(f"{PREFIX}_{name}", words, registry=registry)
            gauge.set_function(partial(_read, door, value))
        ProcessCollector(namespace=PREFIX, registry=registry)
        door.when_done(self.count)

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self._registry)

    def count(self, done: Done) -> None:
        """Count a request's work that is over."""
        for stage, seconds in {**done.stages, "total": done.seconds}.items():
            self._stages.labels(stage).observe(seconds)
        if done.code is not None:
            self._failures.labels(done.code).inc()
        if done.metrics is not None:
            self._tokens.inc(done.metrics.tokens)
            self._audio.inc(done.duration)
            self._occupancy.observe(done.metrics.batch_occupancy)

    def answered(self, route: str, method: str, status: int) -> None:
        """Count a request that was answered."""
        self._requests.labels(route, method, str(status)).inc()

    def first_byte(self, route: str, seconds: float) -> None:
        """Count how long a client waited for its answer to begin."""
        self._first_byte.labels(route).observe(seconds)


def _free_memory(_door: Door, components: Components) -> float:
    """The smallest share that is free of the host's, the container's and the GPU's memory."""
    on_gpu = components.engine.free_memory()
    return host_memory_free() if on_gpu is None else min(on_gpu, host_memory_free())


# Name, meaning, value.
_GAUGES: tuple[tuple[str, str, Callable[[Door, Components], float]], ...] = (
    ("ready", "1 while requests are taken.", lambda door, _: door.state is State.READY),
    ("open_requests", "Requests that are being answered.", lambda door, _: door.open_requests),
    ("open_requests_limit", "Requests that are answered at once.", lambda door, _: door.limit),
    ("slots", "Sentences that can be spoken at once.", lambda _, of: of.engine.slots),
    ("speaking_sentences", "Sentences that are being spoken.", lambda _, of: of.engine.count()[0]),
    ("waiting_sentences", "Sentences that wait for a slot.", lambda _, of: of.engine.count()[1]),
    ("cached_voices", "Named voices in memory.", lambda _, of: of.voices.count_in_memory),
    ("free_memory_ratio", "The least share of memory that is free, 0 to 1.", _free_memory),
)


def _read(door: Door, value: Callable[[Door, Components], float]) -> float:
    components = door.loaded
    return 0.0 if components is None else float(value(door, components))


class Measured:
    """ASGI middleware that counts requests by route and status, and times their first bytes."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        status = 0  # where the client left before there was any
        waits = True

        async def measured(message: Message) -> None:
            nonlocal status, waits
            if message["type"] == "http.response.start":
                status = message["status"]
            elif waits and message.get("body"):
                waits = False
                if status < 400:
                    self._metrics.first_byte(route_of(scope), time.perf_counter() - begun)
            await send(message)

        try:
            await self._app(scope, receive, measured)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else OTHER
            self._metrics.answered(route_of(scope), method, status or 499)


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def route_of(scope: Scope) -> str:
    """The path of the route that answers, with its parameters' names."""
    path: str = getattr(scope.get("route"), "path_format", OTHER)
    return path
