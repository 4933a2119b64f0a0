"""Windows over a toy network: what comes out is the whole, in any pieces and any memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.support.events import Events
from worker.speech.codec.chunked_network import ChunkedNetwork, context_of, cut, gap_of

SHORT = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
RATE, LENGTH = 2, 20


def network() -> nn.Sequential:
    """Two outputs a position, each of which depends on 6 positions on both sides."""
    torch.manual_seed(3)
    layers = nn.Sequential(
        nn.Conv1d(1, 2, 7, padding=3),
        nn.ConvTranspose1d(2, 2, 4, stride=RATE, padding=1),
        nn.Conv1d(2, 1, 3, padding=3, dilation=3),
    )
    return layers.double().requires_grad_(requires_grad=False)


NETWORK = network()
CONTEXT = context_of(NETWORK)


class Watched:
    """The network, which notes how long its inputs are and has room for so many."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room
        self.asked: list[int] = []

    def __call__(self, inputs: Tensor, kept: slice) -> Tensor:
        self.asked.append(inputs.shape[-1])
        assert len(self.asked) < 1000, "windows without end"
        if inputs.shape[-1] > self.room:
            raise torch.OutOfMemoryError(str(SHORT))
        return cut(NETWORK, RATE)(inputs, kept)


def sequence(length: int) -> Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randn(1, 1, length, generator=generator, dtype=torch.float64)


def fed(windows: ChunkedNetwork, inputs: Tensor, piece: int) -> list[Tensor]:
    """All outputs of a sequence that is fed in pieces."""
    length = inputs.shape[-1]
    return [
        made
        for start in range(0, length, piece)
        for made in windows.feed(inputs[..., start : start + piece], last=start + piece >= length)
    ]


def same(outputs: list[Tensor], inputs: Tensor) -> bool:
    whole = NETWORK(inputs)
    made = torch.cat(outputs, -1)
    return made.shape == whole.shape and torch.allclose(made, whole, rtol=0, atol=1e-12)


# A context


def reach_of(layers: nn.Module, at: int, length: int, rate: int) -> int:
    """How far from position `at` the inputs are that its outputs depend on, by its gradient."""
    inputs = torch.ones(1, 1, length, dtype=torch.float64, requires_grad=True)
    layers(inputs)[..., rate * at : rate * (at + 1)].sum().backward()
    assert inputs.grad is not None
    places = inputs.grad.flatten().nonzero().flatten()
    return int((places - at).abs().max())


@pytest.mark.parametrize(
    ("layers", "rate", "context"),
    [
        ([nn.Conv1d(1, 1, 1)], 1, 0),
        ([nn.Conv1d(1, 1, 5, padding=2)], 1, 2),
        ([nn.Conv1d(1, 1, 3, padding=4, dilation=4)], 1, 4),
        ([nn.Conv1d(1, 1, 5, padding=2), nn.Conv1d(1, 1, 3, padding=2, dilation=2)], 1, 4),
        ([nn.ConvTranspose1d(1, 1, 9, stride=2)], 2, 4),  # 8 outputs after its place, none before
        ([nn.ConvTranspose1d(1, 1, 9, stride=2, padding=8)], 2, 4),  # and the other way
        ([nn.ConvTranspose1d(1, 1, 4, stride=2, padding=1)], 2, 1),
        (
            [nn.ConvTranspose1d(1, 1, 4, stride=2, padding=1), nn.Conv1d(1, 1, 7, padding=3)],
            2,
            3,
        ),
        ([nn.Conv1d(1, 1, 3, padding=1), nn.ConvTranspose1d(1, 1, 5, stride=5)], 5, 2),
    ],
)
def test_a_context_is_what_an_output_depends_on(
    layers: list[nn.Module], rate: int, context: int
) -> None:
    """Never less, and at most one more: a transposed convolution's reach is rounded up."""
    toy = nn.Sequential(*layers).double()
    for parameter in toy.parameters():
        nn.init.ones_(parameter)
    assert context_of(toy) == context
    assert context - 1 <= reach_of(toy, 20, 41, rate) <= context


# A gap


@pytest.mark.parametrize(
    ("layers", "gap"),
    [
        ([nn.Conv1d(1, 1, 1)], 0),
        ([nn.Conv1d(1, 1, 7, padding=3)], 3),
        ([nn.Conv1d(1, 1, 3, padding=4, dilation=4)], 4),
        ([nn.ConvTranspose1d(1, 1, 9, stride=2)], 4),
        ([nn.ConvTranspose1d(1, 1, 4, stride=2, padding=1), nn.Conv1d(1, 1, 7, padding=3)], 2),
        ([nn.ConvTranspose1d(1, 1, 4, stride=4), nn.Conv1d(1, 1, 17, padding=8)], 2),
    ],
)
def test_no_layer_sees_past_a_gap(layers: list[nn.Module], gap: int) -> None:
    """Two sequences with a gap of zeros before each layer, of which one changes."""
    assert gap_of(nn.Sequential(*layers)) == gap
    length, rate = 6, 1
    x = torch.zeros(1, 1, 2 * length + gap, dtype=torch.float64)
    x[..., :length] = 1.0  # the second has nothing
    for layer in layers:
        nn.init.ones_(layer.weight)
        nn.init.zeros_(layer.bias)
        x = layer.double()(x)
        if isinstance(layer, nn.ConvTranspose1d):
            rate *= layer.stride[0]
        second = x[..., rate * (length + gap) :]
        assert not second.any()
        x[..., rate * length : rate * (length + gap)] = 0


# The whole


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("piece", [1, 3, LENGTH, 1000])
@pytest.mark.parametrize(
    "length", [1, CONTEXT, CONTEXT + 1, LENGTH - 1, LENGTH, LENGTH + 1, 2 * LENGTH, 71]
)
def test_windows_give_the_whole(length: int, piece: int, fixed: bool) -> None:
    watched, inputs = Watched(), sequence(length)
    assert same(
        fed(ChunkedNetwork(watched, RATE, CONTEXT, LENGTH, fixed=fixed), inputs, piece), inputs
    )
    assert max(watched.asked) <= LENGTH


@pytest.mark.parametrize("piece", [1, 3, LENGTH, 1000])
def test_fixed_windows_are_all_of_one_length(piece: int) -> None:
    watched, inputs = Watched(), sequence(71)
    fed(ChunkedNetwork(watched, RATE, CONTEXT, LENGTH, fixed=True), inputs, piece)
    asked = watched.asked
    whole = next(i for i, length in enumerate(asked) if length == LENGTH)
    assert set(asked[whole:]) == {LENGTH}  # as soon as the sequence is that long
    if piece >= LENGTH:
        assert whole == 0


def test_as_few_windows_as_their_length_allows() -> None:
    """Each keeps all but its context: the first and the last see an end of the sequence."""
    watched, inner = Watched(), LENGTH - 2 * CONTEXT
    length = (LENGTH - CONTEXT) + 3 * inner + (LENGTH - CONTEXT)
    fed(ChunkedNetwork(watched, RATE, CONTEXT, LENGTH), sequence(length), length)
    assert watched.asked == [LENGTH] * 5


def test_an_output_is_given_once_its_context_is_there() -> None:
    windows, inputs = ChunkedNetwork(Watched(), RATE, CONTEXT, LENGTH), sequence(50)
    given = 0
    for length in range(1, 50):
        given += sum(o.shape[-1] for o in windows.feed(inputs[..., length - 1 : length]))
        assert given == RATE * max(0, length - CONTEXT)
    last = windows.feed(inputs[..., 49:], last=True)
    assert given + sum(o.shape[-1] for o in last) == RATE * 50


def test_a_length_that_leaves_nothing_to_keep_is_made_longer() -> None:
    watched, inputs = Watched(), sequence(40)
    assert same(fed(ChunkedNetwork(watched, RATE, CONTEXT, 1), inputs, 7), inputs)
    assert max(watched.asked) == 2 * CONTEXT + 1


def test_what_was_fed_may_be_overwritten_and_is_not_all_kept() -> None:
    windows, inputs = ChunkedNetwork(Watched(), RATE, CONTEXT, LENGTH), sequence(80)
    buffer = inputs[..., :60].clone()
    outputs = windows.feed(buffer)
    buffer.zero_()
    held = windows.mark()[0]
    assert held is not None
    assert held.untyped_storage().nbytes() == 8 * 2 * CONTEXT
    assert same([*outputs, *windows.feed(inputs[..., 60:], last=True)], inputs)


# Going back


@pytest.mark.parametrize("fixed", [False, True])
def test_what_was_fed_since_a_mark_may_be_fed_again(fixed: bool) -> None:
    windows, inputs = ChunkedNetwork(Watched(), RATE, CONTEXT, LENGTH, fixed=fixed), sequence(60)
    start = windows.mark()
    windows.feed(inputs[..., 5:25])
    windows.go_back(start)
    outputs = windows.feed(inputs[..., :30])
    mark = windows.mark()
    first = windows.feed(inputs[..., 30:], last=True)
    windows.go_back(mark)
    again = windows.feed(inputs[..., 30:], last=True)
    assert torch.equal(torch.cat(first, -1), torch.cat(again, -1))
    assert same(outputs + again, inputs)


# Short memory


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("piece", [1, 9, 1000])
def test_where_memory_is_short_windows_are_halved_and_stay_so(
    piece: int, fixed: bool, events: Events
) -> None:
    length, room = 8 * CONTEXT, 4 * CONTEXT
    watched, inputs = Watched(room), sequence(20 * CONTEXT)
    windows = ChunkedNetwork(watched, RATE, CONTEXT, length, fixed=fixed)
    assert same(fed(windows, inputs, piece), inputs)
    too_long = [asked for asked in watched.asked if asked > room]
    assert len(too_long) <= 1
    expected = [("audio is made in shorter chunks", {"tokens": 4 * CONTEXT})]
    assert events() == (expected if too_long else [])
    if piece == 1000:
        assert watched.asked[:2] == [8 * CONTEXT, 4 * CONTEXT]


def test_the_shortest_window_keeps_one_position_and_then_it_fails() -> None:
    shortest = 2 * CONTEXT + 1
    watched, inputs = Watched(shortest), sequence(5 * CONTEXT)
    windows = ChunkedNetwork(watched, RATE, CONTEXT, 3 * CONTEXT)
    assert same(fed(windows, inputs, 1000), inputs)
    assert watched.asked[:2] == [3 * CONTEXT, shortest]
    watched = Watched(shortest - 1)
    with pytest.raises(torch.OutOfMemoryError):
        fed(ChunkedNetwork(watched, RATE, CONTEXT, 3 * CONTEXT), inputs, 1000)
    assert watched.asked == [3 * CONTEXT, shortest]


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), ValueError("no")])
def test_another_error_is_no_short_memory(error: Exception) -> None:
    asked: list[int] = []

    def broken(inputs: Tensor, _kept: slice) -> Tensor:
        asked.append(inputs.shape[-1])
        raise error

    with pytest.raises(type(error)) as raised:
        fed(ChunkedNetwork(broken, RATE, CONTEXT, LENGTH), sequence(40), 1000)
    assert raised.value is error
    assert asked == [LENGTH]


def test_the_hosts_memory_counts_too() -> None:
    def short(inputs: Tensor, kept: slice) -> Tensor:
        if inputs.shape[-1] > 2 * CONTEXT + 1:
            raise MemoryError
        return cut(NETWORK, RATE)(inputs, kept)

    inputs = sequence(40)
    assert same(fed(ChunkedNetwork(short, RATE, CONTEXT, LENGTH), inputs, 1000), inputs)
