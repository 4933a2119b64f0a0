"""The dry run of a GPU: each kind of fault is found where it is planted, and nothing else is.

tests/platform/gpu runs the worker by it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from tests.support.dry_gpu import dry_gpu
from tests.support.dry_gpu.flash import with_kvcache
from tests.support.dry_gpu.kernels import DryLauncher
from tests.support.dry_gpu.streams import Gpu, RaceError, SynchronisedError
from tests.support.dry_gpu.tensors import OnDevice
from worker.speech.cuda import lm as kernels


@pytest.fixture
def gpu() -> Iterator[Gpu]:
    with dry_gpu() as found:
        yield found


def some(*shape: int, dtype: torch.dtype = torch.float32, device: str = "cuda") -> Tensor:
    return torch.arange(torch.Size(shape).numel(), device=device).reshape(shape).to(dtype)


# Devices


def test_a_tensor_says_that_it_is_on_the_gpu_and_computes(gpu: Gpu) -> None:
    x = some(2, 3)
    assert isinstance(x, OnDevice)
    assert (x.device.type, x.is_cuda, x.is_cpu) == ("cuda", True, False)
    assert (x @ x.T).relu().tolist() == [[5.0, 14.0], [14.0, 50.0]]
    x[1] = 7.0
    x.view(-1)[0] = 9.0  # the same memory
    assert x.cpu().tolist() == [[9.0, 1.0, 2.0], [7.0, 7.0, 7.0]]
    assert torch.nn.Linear(3, 2).to("cuda")(x).device.type == "cuda"


@pytest.mark.parametrize(
    "fault",
    [
        lambda x: x + torch.ones(3),
        lambda x: torch.cat([x, torch.ones(2, 3)]),
        lambda x: F.linear(x, torch.ones(4, 3)),
        lambda x: F.linear(torch.ones(2, 3), x),
        lambda x: torch.where(x > 1, x, torch.ones(2, 3)),
        lambda x: x.masked_fill(torch.ones(2, 3, dtype=torch.bool), 0.0),
        lambda x: x.gather(1, torch.zeros(2, 1, dtype=torch.long)),
        lambda x: torch.stack([x[0], torch.ones(3)]),
        lambda x: x.index_put_((torch.tensor([0], device="cuda"),), torch.ones(1, 3)),
        lambda x: torch.cat([x.view(-1), torch.tensor([1.0])]),
    ],
)  # fmt: skip
def test_a_tensor_of_the_host_among_those_of_the_gpu_is_found(
    gpu: Gpu, fault: Callable[[Tensor], Tensor]
) -> None:
    with pytest.raises(RuntimeError, match="same device"):
        fault(some(2, 3))


def test_a_number_in_a_tensor_of_the_host_is_no_fault_where_torch_takes_it(gpu: Gpu) -> None:
    x = some(2, 3)
    with gpu.unsynchronised():
        x = x / torch.tensor(2.0) + 1
        x[0, 0] = torch.tensor(5.0)
    assert x.tolist() == [[5.0, 1.5, 2.0], [2.5, 3.0, 3.5]]


# Waiting for the device


def pinned(*shape: int) -> Tensor:
    return torch.empty(shape, pin_memory=True)


@pytest.mark.parametrize(
    "fault",
    [
        lambda x: x.sum().item(),
        lambda x: int(x[0, 0]),
        lambda x: float(x[0, 0]),
        lambda x: bool(x[0, 0] > 1),
        lambda x: 1 if (x > 1).any() else 0,
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.to("cpu", non_blocking=True),  # into memory that is not pinned
        lambda x: x[[0, 1]],
        lambda x: x[:, [0, 1]],
        lambda x: x.__setitem__([0, 1], 0.0),
        lambda x: x[torch.tensor([0, 1])],
        lambda x: x[x > 1],
        lambda x: x.nonzero(),
        lambda x: x.masked_select(x > 1),
        lambda x: x.unique(),
        lambda x: torch.equal(x, x),
        lambda x: [1, 2][x[0, 1].long()],
        lambda x: torch.tensor([1.0], device="cuda"),
        lambda x: torch.ones(3).to(x.device),
        lambda x: torch.ones(3).to(x.device, non_blocking=True),
        lambda x: pinned(3).to(x.device),
        lambda x: x.copy_(torch.ones(2, 3)),
        lambda x: x[0].copy_(pinned(3)),
        lambda x: pinned(2, 3).copy_(x),
        lambda x: torch.empty(2, 3).copy_(x, non_blocking=True),
        lambda x: x.__setitem__(0, torch.ones(3)),
        lambda x: torch.cuda.synchronize(),
        lambda x: torch.cuda.current_stream().synchronize(),
        lambda x: torch.cuda.Event().synchronize(),
    ],
)  # fmt: skip
def test_whatever_waits_for_the_device_is_found(gpu: Gpu, fault: Callable[[Tensor], Any]) -> None:
    x = some(2, 3)
    before = len(gpu.waits)
    fault(x)  # allowed elsewhere, and noted
    assert len(gpu.waits) > before
    assert "(test_dry_gpu.py:" in gpu.waits[-1]
    with gpu.unsynchronised(), pytest.raises(SynchronisedError):
        fault(x)


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x[0:1] + x[1, 2] + x[:, None, 0] + x[..., -1:],
        lambda x: x[torch.zeros(2, dtype=torch.long, device="cuda")],
        lambda x: x.__setitem__(0, 4.0),
        lambda x: x.__setitem__(slice(0, 1), x[1:]),
        lambda x: torch.zeros(3, device="cuda") + torch.arange(3, device=x.device),
        lambda x: x.topk(2).values.softmax(-1).cumsum(-1).argmax(-1),
        lambda x: pinned(2, 3).copy_(x, non_blocking=True),
        lambda x: x.copy_(pinned(2, 3), non_blocking=True),
        lambda x: pinned(3).to(x.device, non_blocking=True),
        lambda x: torch.ones(3).pin_memory().to("cuda", non_blocking=True),
        lambda x: torch.cuda.current_stream().wait_stream(torch.cuda.Stream()),
        lambda x: torch.cuda.Event().record(),
    ],
)
def test_what_does_not_wait_is_let_be(gpu: Gpu, work: Callable[[Tensor], Any]) -> None:
    x = some(2, 3)
    before = list(gpu.waits)
    with gpu.unsynchronised():
        work(x)
    assert gpu.waits == before


def test_a_thread_that_begins_meanwhile_is_on_the_same_gpu(gpu: Gpu) -> None:
    seen: list[object] = []

    def work() -> None:
        with gpu.unsynchronised():
            x = torch.zeros(2, device="cuda")
            try:
                seen.append(x.tolist())
            except SynchronisedError as error:
                seen.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [type(one) for one in seen] == [SynchronisedError]
    assert torch.zeros(1, device="cuda").tolist() == [0.0]  # the other thread's promise is its own


# Graphs


def captured(work: Callable[[], Tensor], pool: object = None) -> tuple[Any, Tensor]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        made = work()
    return graph, made


def test_a_replay_runs_on_what_its_memory_holds_then(gpu: Gpu) -> None:
    x, total = some(3), torch.zeros(3, device="cuda")
    graph, made = captured(lambda: total.add_(x) * 2)
    assert total.tolist() == [0.0, 0.0, 0.0]  # a capture runs nothing
    assert torch.isnan(made).all()
    for _ in range(2):
        graph.replay()
    assert made.tolist() == [0.0, 4.0, 8.0]
    x.fill_(1.0)
    graph.replay()
    assert total.tolist() == [1.0, 3.0, 5.0]


def test_a_graph_that_depends_on_a_value_of_pythons_has_the_old_one(gpu: Gpu) -> None:
    x, place = some(3), {"now": 1}
    graph, made = captured(lambda: x + place["now"])
    place["now"] = 100
    graph.replay()
    assert made.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "fault",
    [
        lambda x: x.sum().item(),
        lambda x: x[[0]],
        lambda x: torch.tensor([1.0], device="cuda"),
        lambda x: x.copy_(torch.ones(3)),
        lambda x: torch.cuda.synchronize(),
    ],
)
def test_a_graph_that_would_wait_is_refused(gpu: Gpu, fault: Callable[[Tensor], Any]) -> None:
    x = some(3)
    with pytest.raises(SynchronisedError, match="captured"):
        captured(lambda: fault(x))
    assert captured(lambda: x + 1)[0].tape  # and the next one is not spoilt by it


def test_results_of_a_graph_are_lost_to_the_next_one_of_its_pool(gpu: Gpu) -> None:
    x, pool = some(3), torch.cuda.graph_pool_handle()
    (one, first), (two, _), (apart, third) = (
        captured(lambda: x + 1, place) for place in (pool, pool, None)
    )
    apart.replay()
    one.replay()
    assert first.tolist() == [1.0, 2.0, 3.0]
    two.replay()
    assert torch.isnan(first).all()
    assert third.tolist() == [1.0, 2.0, 3.0]


# Streams


def test_what_another_stream_may_still_write_is_not_to_be_read(gpu: Gpu) -> None:
    side = torch.cuda.Stream()
    x = some(3)
    with torch.cuda.stream(side), pytest.raises(RaceError, match="still write"):
        x + 1


def test_what_another_stream_may_still_read_is_not_to_be_written(gpu: Gpu) -> None:
    side, x = torch.cuda.Stream(), some(3)
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        x + 1
    with pytest.raises(RaceError, match="still read"):
        x.add_(1)


@pytest.mark.parametrize("way", ["stream", "event", "synchronize", "read"])
def test_streams_that_wait_for_each_other_are_in_order(gpu: Gpu, way: str) -> None:
    main, side = torch.cuda.current_stream(), torch.cuda.Stream()
    x = some(3)
    match way:
        case "stream":
            side.wait_stream(main)
        case "event":
            event = torch.cuda.Event()
            event.record()
            side.wait_event(event)
        case "synchronize":
            main.synchronize()
        case "read":
            x.cpu()
    with torch.cuda.stream(side):
        assert (x + 1).tolist() == [1.0, 2.0, 3.0]


def test_a_wait_covers_what_came_before_it_alone(gpu: Gpu) -> None:
    main, side = torch.cuda.current_stream(), torch.cuda.Stream()
    x = some(3)
    side.wait_stream(main)
    x.add_(1)
    with torch.cuda.stream(side), pytest.raises(RaceError):
        x + 1


# flash-attn's contract


def flash_inputs() -> dict[str, Any]:
    """Two rows, three new tokens, six heads of which three share keys."""
    halves = torch.bfloat16
    return {
        "q": some(2, 3, 6, 8, dtype=halves),
        "k_cache": torch.zeros(2, 20, 2, 8, dtype=halves, device="cuda"),
        "v_cache": torch.zeros(2, 20, 2, 8, dtype=halves, device="cuda"),
        "k": some(2, 3, 2, 8, dtype=halves),
        "v": some(2, 3, 2, 8, dtype=halves),
        "cache_seqlens": torch.zeros(2, dtype=torch.int32, device="cuda"),
        "causal": True,
    }


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("q", lambda t: t.float(), "float16 and bfloat16"),
        ("k", lambda t: t.half(), "one dtype"),
        ("v", lambda t: t.cpu(), "on the GPU"),
        ("q", lambda t: t[:, :, :5], "multiple of key heads"),
        ("q", lambda t: t[..., :7], "multiple of 8"),
        ("v_cache", lambda t: t[:, :10], "shape of the caches"),
        ("k", lambda t: t[:, :2], "shape of the new"),
        ("k", lambda t: t.transpose(2, 3).contiguous().transpose(2, 3), "contiguous channels"),
        ("cache_seqlens", lambda t: t.long(), "int32"),
        ("cache_seqlens", lambda t: t[:1], "for each row"),
        ("cache_seqlens", lambda t: t.cpu(), "lengths on the GPU"),
        ("cache_seqlens", lambda t: t.repeat(2)[::2], "contiguous lengths"),
        ("cache_seqlens", lambda t: t + 18, "fit the cache"),
    ],
)
def test_what_flash_attention_refuses_is_refused(
    gpu: Gpu, name: str, spoil: Callable[[Tensor], Tensor], said: str
) -> None:
    given = flash_inputs()
    assert with_kvcache(**given).shape == (2, 3, 6, 8)
    given[name] = spoil(given[name])
    with pytest.raises(AssertionError, match=said):
        with_kvcache(**given)


# Kernels of the worker's own


COMPILED = pytest.mark.slow("compiles the kernels for a CPU")


def launch(launcher: DryLauncher, **given: Tensor) -> None:
    """Attention's query of two heads of 32 channels at position 0: its result is the value."""
    tokens = kernels.Tokens(given["count"].data_ptr(), None, given["positions"].data_ptr())
    pages = given["pages"]
    paged = kernels.Pages(pages.data_ptr(), given["table"].data_ptr(), 1, 1, 32)
    out = given["out"].data_ptr() if "out" in given else torch.zeros(2, 32).data_ptr()
    partial, arrived = given["partial"].data_ptr(), given["arrived"].data_ptr()
    queries = given["queries"].data_ptr()
    attend = kernels.Attend(tokens, queries, paged, out, partial, arrived, 2, 1, 1.0)
    launcher.launch("attend_32", (1, 1, 1), kernels.ATTEND_THREADS, attend)


def operands() -> dict[str, Tensor]:
    made = {
        "count": torch.ones(1, dtype=torch.long),
        "positions": torch.zeros(1, dtype=torch.long),
        "table": torch.zeros(1, 1, dtype=torch.int32),
        "pages": torch.full((1, 2, 1, 64, 32), 3.0, dtype=torch.bfloat16),
        "queries": torch.ones(2, 32, dtype=torch.bfloat16),
        "out": torch.zeros(2, 32, dtype=torch.bfloat16),
        "partial": torch.zeros(8 * 8 * 34),
        "arrived": torch.zeros(1, dtype=torch.int32),
    }
    return {name: tensor.to("cuda") for name, tensor in made.items()}


@COMPILED
def test_a_kernel_runs_on_the_tensors_values(gpu: Gpu) -> None:
    given, launcher = operands(), DryLauncher(gpu)
    with gpu.unsynchronised():
        launch(launcher, **given)
    assert (given["out"] == 3).all()


@COMPILED
def test_a_captured_kernel_runs_at_each_replay(gpu: Gpu) -> None:
    given, launcher = operands(), DryLauncher(gpu)
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    with torch.cuda.graph(graph, stream=stream):
        launch(launcher, **given)
    assert not given["out"].any()
    for value in (3.0, 5.0):
        given["pages"].fill_(value)
        graph.replay()
        assert (given["out"] == value).all()
    assert launcher.launches == 2


@COMPILED
@pytest.mark.parametrize(
    ("first", "what", "found"),
    [
        (True, "pages", True),
        (True, "out", True),
        (False, "queries", False),
        (False, "out", True),
    ],
)
def test_a_kernel_beside_another_stream_is_found(
    gpu: Gpu, first: bool, what: str, found: bool
) -> None:
    """One that writes `what` before it, or that reads it after it."""
    given, launcher, other = operands(), DryLauncher(gpu), torch.cuda.Stream()
    torch.cuda.synchronize()
    race = pytest.raises(RaceError) if found else nullcontext()
    if first:
        with torch.cuda.stream(other):
            given[what].fill_(1.0)
        with race:
            launch(launcher, **given)
    else:
        launch(launcher, **given)
        with torch.cuda.stream(other), race:
            given[what] + 1


@COMPILED
def test_a_kernel_on_the_hosts_memory_is_found(gpu: Gpu) -> None:
    given = operands()
    del given["out"]
    with pytest.raises(AssertionError, match="out of Attend is nobody's memory"):
        launch(DryLauncher(gpu), **given)
