"""The fused kernels, run on a CPU (tests/support/cuda_on_cpu), beside the model in torch."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.support.cuda_on_cpu import CpuLauncher
from tests.support.random_checkpoint import Sizes, make_random_checkpoint
from worker.errors import SetupError
from worker.speech.batch.sampling import ALL, BatchSampling, draw
from worker.speech.cuda import lm as kernels
from worker.speech.lm import fused_model as module
from worker.speech.lm.config import LMConfig
from worker.speech.lm.fused_model import (
    MOST_TOKENS,
    PROMPT_SIZES,
    FusedHead,
    FusedLanguageModel,
)
from worker.speech.lm.fused_weights import FusedLayer, Tiles, pairs, why_unsupported
from worker.speech.lm.interface import RowDraws
from worker.speech.lm.torch_model import LanguageModel

pytestmark = pytest.mark.slow("compiles the kernels for a CPU")

CPU = torch.device("cpu")
POSITIONS = 256
# Of heads of each size; the second shares keys as the published model does.
SIZES = {
    "heads of 32": Sizes(hidden=64, heads=2, kv_heads=1, intermediate=96),
    "seven share a key": Sizes(hidden=448, heads=7, kv_heads=1, intermediate=160, layers=2),
    "heads of 128": Sizes(hidden=256, heads=2, kv_heads=2, intermediate=64, layers=2),
    "many inputs": Sizes(hidden=64, heads=1, kv_heads=1, intermediate=2208, layers=1),
}


@dataclass(frozen=True)
class Models:
    """One checkpoint, by each way of computing it."""

    fused: FusedLanguageModel
    exact: LanguageModel
    half: LanguageModel

    @property
    def vocabulary(self) -> int:
        return self.fused.config.vocab_size


def load(folder: Path) -> Models:
    lm = folder / "LLM"
    return Models(
        FusedLanguageModel.load(lm, CPU, CpuLauncher()),
        LanguageModel.load(lm, torch.float32, CPU),
        LanguageModel.load(lm, torch.bfloat16, CPU),
    )


@pytest.fixture(scope="module", params=SIZES)
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("fused") / "model"
    return load(make_random_checkpoint(folder, SIZES[request.param], "cpu"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("fused") / "tiny"
    return load(make_random_checkpoint(folder, SIZES["heads of 32"], "cpu"))


def prompts_of(models: Models, *lengths: int) -> list[list[int]]:
    draws = torch.Generator().manual_seed(len(lengths))
    return [
        torch.randint(0, models.vocabulary, (length,), generator=draws).tolist()
        for length in lengths
    ]


@torch.inference_mode()
def states(
    lm: FusedLanguageModel | LanguageModel,
    prompts: Sequence[Sequence[int]],
    steps: int = 3,
    first: int = 0,
) -> Tensor:
    """Hidden states [1 + steps, rows, D] after the prompts and after some tokens more."""
    cache = lm.new_cache(first + len(prompts), POSITIONS)
    for row in range(first, first + len(prompts)):
        cache.reserve(row, POSITIONS)
    cache.flush()
    rows = cache.rows(first, len(prompts))
    found = [lm.prefill(prompts, rows).float().clone()]
    at = torch.tensor([len(prompt) for prompt in prompts])
    for step in range(steps):
        ids = torch.tensor([(prompt[0] + 7 * step) % 90 for prompt in prompts])
        if first:  # a step's rows begin with row 0
            break
        found.append(lm.step(ids, at + step, rows, POSITIONS).float().clone())
    return torch.stack(found)


def error(mine: Tensor, exact: Tensor) -> float:
    return float(((mine - exact).pow(2).mean() / exact.pow(2).mean()).sqrt())


class TestNumbers:
    def test_are_nearer_to_the_exact_ones_than_those_of_torch_in_bfloat16(
        self, models: Models
    ) -> None:
        prompts = prompts_of(models, 5, 40, 66, 1)
        exact = states(models.exact, prompts)
        mine, torchs = (error(states(lm, prompts), exact) for lm in (models.fused, models.half))
        assert mine < min(torchs, 0.05)

    def test_are_as_near_in_a_layer_of_the_published_size(self, tmp_path: Path) -> None:
        sizes = Sizes(hidden=896, heads=14, kv_heads=2, intermediate=4864, layers=1, spread=0.02)
        models = load(make_random_checkpoint(tmp_path / "model", sizes, "cpu"))
        prompts = prompts_of(models, 3, 1)
        exact = states(models.exact, prompts, steps=1)
        mine, torchs = (
            error(states(lm, prompts, steps=1), exact) for lm in (models.fused, models.half)
        )
        assert mine < min(torchs, 0.01)

    def test_are_those_of_the_embedded_model(self, demo_checkpoint: Path) -> None:
        models = load(demo_checkpoint)
        prompts = prompts_of(models, 20, 33)
        exact = states(models.exact, prompts)
        assert error(states(models.fused, prompts), exact) < error(
            states(models.half, prompts), exact
        )

    @pytest.mark.parametrize("rows", [2, 9, 17, 33, 65])
    def test_of_a_row_are_the_same_in_any_company(self, tiny: Models, rows: int) -> None:
        prompts = prompts_of(tiny, *(3 + 5 * row % 31 for row in range(rows)))
        together = states(tiny.fused, prompts)
        for row in (0, rows // 2, rows - 1):
            assert torch.equal(states(tiny.fused, [prompts[row]])[:, 0], together[:, row])

    def test_are_the_same_wherever_the_row_stands(self, tiny: Models) -> None:
        prompts = prompts_of(tiny, 12, 40)
        assert torch.equal(states(tiny.fused, prompts, first=3)[0], states(tiny.fused, prompts)[0])

    @torch.inference_mode()
    def test_are_the_same_in_parts_of_any_length(self, tiny: Models) -> None:
        prompts = prompts_of(tiny, 75, 20)
        whole = states(tiny.fused, prompts, steps=0)[0]
        cache = tiny.fused.new_cache(2, POSITIONS)
        for row in range(2):
            cache.reserve(row, POSITIONS)
        cache.flush()
        read, found = [0, 0], whole.clone()
        for size in (1, 7, 30, 64):
            for row, prompt in enumerate(prompts):
                part = prompt[read[row] : read[row] + size]
                if part:
                    hidden = tiny.fused.prefill([part], cache.rows(row, 1), [read[row]])
                    found[row] = hidden[0].float()
                    read[row] += len(part)
        assert read == [75, 20]
        assert torch.equal(found, whole)

    @torch.inference_mode()
    def test_of_steps_are_those_of_a_prompt(self, tiny: Models) -> None:
        """What lets a row that lost its place go on as if it had not."""
        (prompt,) = prompts_of(tiny, 90)
        cache = tiny.fused.new_cache(1, POSITIONS)
        cache.reserve(0, POSITIONS)
        cache.flush()
        tiny.fused.prefill([prompt[:30]], cache.rows(0, 1))
        for at in range(30, 90):
            ids, place = torch.tensor([prompt[at]]), torch.tensor([at])
            stepped = tiny.fused.step(ids, place, cache.rows(0, 1), POSITIONS)
        assert torch.equal(stepped[0].float(), states(tiny.fused, [prompt], steps=0)[0, 0])

    @torch.inference_mode()
    def test_of_prompts_longer_than_a_run(self, tiny: Models) -> None:
        prompts = prompts_of(tiny, MOST_TOKENS - 50, 100, 30)
        found = []
        for lm in (tiny.fused, tiny.exact):
            cache = lm.new_cache(3, 1100)
            for row in range(3):
                cache.reserve(row, 1100)
            cache.flush()
            found.append(lm.prefill(prompts, cache.rows(0, 3)).float())
        assert error(*found) < 0.03


class TestStep:
    @torch.inference_mode()
    def test_leaves_rows_past_the_count_alone(self, tiny: Models) -> None:
        lm = tiny.fused
        cache = lm.new_cache(8, POSITIONS)
        for row in range(8):
            cache.reserve(row, POSITIONS)
        cache.flush()
        cache.pages.fill_(1)
        before = cache.pages.clone()
        ids, at = torch.arange(8), torch.full((8,), 5)
        lm.step(ids, at, cache.rows(0, 8), POSITIONS, torch.tensor([3]))
        changed = (cache.pages != before).flatten(2).any(2).any(0).nonzero()[:, 0]
        assert changed.tolist() == sorted(cache.table[:3, 0].tolist())

    def test_is_five_kernels_a_layer_and_four(self, tiny: Models) -> None:
        lm = tiny.fused
        cache = lm.new_cache(1, POSITIONS)
        cache.reserve(0, POSITIONS)
        cache.flush()
        launcher = lm.launcher
        assert isinstance(launcher, CpuLauncher)
        launcher.launched.clear()
        one = torch.zeros(1, dtype=torch.long)
        hidden = lm.step(one, one, cache.rows(0, 1), POSITIONS)
        lm.head(torch.arange(50)).draw(hidden, batch(1))
        assert len(launcher.launched) == 5 * lm.config.num_hidden_layers + 4
        assert 5 * 24 + 4 <= 130  # the published model's

    @torch.inference_mode()
    def test_rows_without_numbers_harm_no_other(self, tiny: Models) -> None:
        prompts = prompts_of(tiny, 30, 30)
        lm = tiny.fused
        cache = lm.new_cache(2, POSITIONS)
        for row in range(2):
            cache.reserve(row, POSITIONS)
        cache.flush()
        cache.pages[:, cache.table[0, 0].item()] = float("nan")
        hidden = lm.prefill([prompts[1]], cache.rows(1, 1)).clone()
        ids, at = torch.tensor([5, 5]), torch.tensor([30, 30])
        both = lm.step(ids, at, cache.rows(0, 2), POSITIONS)
        assert both[0].isnan().all()
        assert not both[1].isnan().any()
        assert torch.equal(hidden.float(), states(lm, [prompts[1]], steps=0)[0])


class TestAttention:
    @pytest.mark.parametrize("position", [0, 31, 32, 127, 128, 1023, 3000])
    @torch.inference_mode()
    def test_over_any_number_of_positions(self, tiny: Models, position: int) -> None:
        lm = tiny.fused
        cache, exact = lm.new_cache(1, 3100), tiny.exact.new_cache(1, 3100)
        cache.reserve(0, 3100)
        cache.flush()
        draws = torch.Generator().manual_seed(position)
        for keys_values, whole in ((0, exact.keys), (1, exact.values)):
            whole.copy_(torch.randn(whole.shape, generator=draws).bfloat16())
            for place, page in enumerate(cache.table[0].tolist()):
                some = whole[:, 0, 64 * place : 64 * place + 64].transpose(1, 2)
                cache.pages[:, page, keys_values, :, : some.shape[2]] = some.bfloat16()
        # What lies past the position is nobody's.
        cache.pages[:, cache.table[0, position // 64], :, :, position % 64 + 1 :] = float("nan")
        ids, at = torch.tensor([7]), torch.tensor([position])
        mine = lm.step(ids, at, cache.rows(0, 1), 3100).float()
        assert error(mine, tiny.exact.step(ids, at, exact.rows(0, 1), position + 1)) < 0.03


def batch(rows: int, **changes: object) -> RowDraws:
    """Rows that draw, at the second token of their answers."""
    draws = torch.Generator().manual_seed(7)
    made = RowDraws(
        temperature=torch.full((rows, 1), 0.8),
        top_k=torch.full((rows, 1), 50),
        top_p=torch.full((rows, 1), 0.95),
        uniforms=torch.rand(rows, 40, generator=draws, dtype=torch.float64),
        ids=torch.zeros(rows, dtype=torch.long),
        at=torch.full((rows,), 9),
        drawn=torch.ones(rows, dtype=torch.long),
        end_from=torch.zeros(rows, dtype=torch.long),
    )
    return replace(made, **changes)


def head_of(tokens: int, spread: float = 1.0) -> tuple[FusedHead, Tensor]:
    """A head of random weights, and these [tokens, 64]; its tokens' ids are 1000 and so on."""
    draws = torch.Generator().manual_seed(tokens)
    weight = (torch.randn(tokens, 64, generator=draws) * spread).bfloat16()
    return FusedHead(CpuLauncher(), weight, torch.arange(1000, 1000 + tokens)), weight


def hidden_of(rows: int) -> Tensor:
    return torch.randn(rows, 64, generator=torch.Generator().manual_seed(rows)).bfloat16()


class TestDraws:
    @pytest.mark.parametrize("tokens", [1, 3, 50, 1001, 8193, 12_000])
    @pytest.mark.parametrize("rows", [1, 5, 20])
    def test_are_those_of_torch(self, tokens: int, rows: int) -> None:
        head, weight = head_of(tokens)
        hidden = hidden_of(rows)
        draws = torch.Generator().manual_seed(1)
        state = batch(
            rows,
            temperature=torch.rand(rows, 1, generator=draws) + 0.3,
            top_k=torch.randint(1, 65, (rows, 1), generator=draws),
            top_p=torch.rand(rows, 1, generator=draws) + 0.1,
        )
        logits = hidden.float() @ weight.float().T
        assert torch.allclose(head(hidden), logits, rtol=1e-4, atol=1e-4)
        how = BatchSampling(state.temperature, state.top_k, state.top_p, 64)
        wanted = draw(head(hidden), how, state.uniforms[:, 1])
        assert head.draw(hidden, state).tolist() == (1000 + wanted).tolist()

    @pytest.mark.parametrize("tokens", [65, 1001, 8193, 12_000])
    @pytest.mark.parametrize("top_k", [65, 900, 8193, ALL])
    def test_of_a_wide_top_k_are_those_of_torch(self, tokens: int, top_k: int) -> None:
        head, _ = head_of(tokens, spread=0.2)
        hidden = hidden_of(6)
        state = batch(
            6,
            temperature=torch.tensor([[0.3], [0.8], [1.0], [1.5], [3.0], [0.8]]),
            top_k=torch.tensor([[top_k]] * 5 + [[50]]),  # one that is narrow beside them
            top_p=torch.tensor([[0.9], [0.5], [1.0], [0.99], [1.0], [0.95]]),
        )
        logits = head(hidden)
        apart = [
            draw(
                logits[row : row + 1],
                BatchSampling(
                    state.temperature[row : row + 1],
                    state.top_k[row : row + 1],
                    state.top_p[row : row + 1],
                    int(state.top_k[row]),
                ),
                state.uniforms[row : row + 1, 1],
            ).item()
            + 1000
            for row in range(6)
        ]
        assert head.draw(hidden, state).tolist() == apart
        assert len(set(apart)) > 3

    @pytest.mark.parametrize(("tokens", "top_k", "rows"), [(20, 8, 500), (100, 80, 250)])
    def test_follow_their_probabilities(self, tokens: int, top_k: int, rows: int) -> None:
        head, weight = head_of(tokens, spread=0.3)
        hidden = hidden_of(1).expand(rows, 64)
        state = batch(rows, top_k=torch.full((rows, 1), top_k), top_p=torch.full((rows, 1), 1.0))
        drawn = head.draw(hidden, state) - 1000
        top = (hidden[0].float() @ weight.float().T).topk(top_k)
        expected = (top.values / 0.8).softmax(0)
        share = torch.stack([(drawn == token).float().mean() for token in top.indices])
        assert torch.allclose(share, expected, atol=0.07)

    def test_move_their_rows_on(self) -> None:
        head, _ = head_of(50)
        state = batch(3, speaking=torch.tensor([True, False, True]))
        state.at[2], state.drawn[2] = 39, 39
        tokens = head.draw(hidden_of(3), state)
        assert state.ids.tolist() == [tokens[0], 0, tokens[2]]
        assert state.at.tolist() == [10, 9, 39]  # the last position is the last
        assert state.drawn.tolist() == [2, 1, 39]

    def test_are_for_the_places_named(self) -> None:
        head, _ = head_of(50)
        hidden = hidden_of(2)
        everywhere = batch(6)
        named = head.draw(hidden, replace(everywhere, places=torch.tensor([4, 1])))
        assert everywhere.at.tolist() == [9, 10, 9, 9, 10, 9]
        assert everywhere.ids[[4, 1]].tolist() == named.tolist()

    @pytest.mark.parametrize(("tokens", "top_k"), [(4, 50), (100, ALL)])
    def test_end_no_answer_too_early(self, tokens: int, top_k: int) -> None:
        weight = torch.zeros(tokens, 64).bfloat16()
        weight[2] = 1.0  # the end is the likeliest by far
        head = FusedHead(CpuLauncher(), weight, torch.arange(tokens))
        hidden = torch.ones(2, 64).bfloat16()
        top_ks = torch.full((2, 1), top_k)
        state = batch(2, end=2, end_from=torch.tensor([2, 1]), top_k=top_ks)
        early, late = head.draw(hidden, state).tolist()
        assert early != 2
        assert late == 2

    @pytest.mark.parametrize(
        ("top_k", "top_p", "kept"),
        [(3, 1.0, 3), (100, 1.0, 100), (ALL, 1.0, 300), (ALL, 0.5, 150), (100, 0.25, 25)],
    )
    def test_of_equal_logits_take_the_first(self, top_k: int, top_p: float, kept: int) -> None:
        head = FusedHead(CpuLauncher(), torch.zeros(300, 64).bfloat16(), torch.arange(300))
        state = batch(40, top_k=torch.full((40, 1), top_k), top_p=torch.full((40, 1), top_p))
        tokens = head.draw(hidden_of(40), state).tolist()
        assert tokens == (state.uniforms[:, 1] * kept).long().tolist()
        assert kept > 3 or set(tokens) == {0, 1, 2}

    @pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
    def test_of_a_wide_top_k_at_either_end_are_the_first_and_the_last(self, uniform: float) -> None:
        head, _ = head_of(200)
        hidden = hidden_of(2)
        state = batch(
            2,
            uniforms=torch.full((2, 40), uniform, dtype=torch.float64),
            top_k=torch.full((2, 1), 70),
            top_p=torch.tensor([[1.0], [1e-9]]),  # the likeliest alone is always left
        )
        order = head(hidden).argsort(1, descending=True)
        wanted = [order[0, 69 if uniform else 0].item(), order[1, 0].item()]
        assert (head.draw(hidden, state) - 1000).tolist() == wanted

    @pytest.mark.parametrize("top_k", [50, 80, ALL])
    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_of_what_is_no_number_are_none(self, bad: float, top_k: int) -> None:
        head, _ = head_of(100)
        hidden = hidden_of(3)
        hidden[1] = bad
        state = batch(3, top_k=torch.full((3, 1), top_k))
        tokens = head.draw(hidden, state).tolist()
        assert tokens[1] == -1
        assert min(tokens[0], tokens[2]) >= 1000
        assert state.ids[1] == 0

    def test_of_the_likeliest_alone(self) -> None:
        head, weight = head_of(200)
        hidden = hidden_of(4)
        state = batch(4, top_k=torch.ones(4, 1, dtype=torch.long))
        best = (hidden.float() @ weight.float().T).argmax(1)
        assert (head.draw(hidden, state) - 1000).tolist() == best.tolist()


class TestWeights:
    def test_tiles_lie_as_lanes_read_them(self) -> None:
        weight = torch.arange(32 * 64).view(32, 64)
        tiles = Tiles.of(weight).weights
        assert tiles.shape == (2, 2, 2, 8, 4, 2, 2, 2)
        assert tiles[1, 0, 1, 3, 2, 0, 1, 1] == weight[16 + 8 + 3, 2 * 8 + 4 + 1]
        assert tiles[0, 1, 0, 7, 0, 1, 0, 0] == weight[7, 32 + 2]

    def test_pairs_are_the_halves_of_a_tile(self) -> None:
        order = pairs(16, 2).view(-1, 2, 8)
        assert torch.equal(order[:, 1] - order[:, 0], torch.full((4, 8), 16))
        assert sorted(order.flatten().tolist()) == list(range(64))

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"hidden_size": 56 * 14}, "heads have 56 channels"),
            ({"intermediate_size": 4860}, "intermediate_size is no multiple of 32"),
            ({"num_key_value_heads": 1}, "14 queries share a key"),
            ({"num_key_value_heads": 4}, "3.5 queries share a key"),
        ],
    )
    def test_of_unsupported_sizes(self, change: dict[str, int], said: str) -> None:
        published = LMConfig(166_000, 896, 4864, 24, 14, 2, 32_768, 1e-6, 1e6, True)
        assert why_unsupported(published) is None
        assert said in (why_unsupported(replace(published, **change)) or "")

    def test_that_do_not_fit_are_refused(self, tiny: Models, tmp_path: Path) -> None:
        folder = make_random_checkpoint(tmp_path / "model", SIZES["heads of 32"], "cpu") / "LLM"
        tensors = dict(tiny.half.state_dict())
        del tensors["lm_head.weight"]
        tensors = {f"model.{name}": tensor for name, tensor in tensors.items()}
        del tensors["model.layers.1.mlp.up_proj.weight"]
        save_file(tensors, folder / "model.safetensors")
        with pytest.raises(SetupError, match=r"does not fit config\.json"):
            FusedLanguageModel.load(folder, CPU, CpuLauncher())

    @pytest.mark.parametrize(
        ("name", "shape"),
        [
            ("layers.0.self_attn.k_proj.weight", (64, 64)),  # more heads than the config has
            ("layers.1.self_attn.o_proj.weight", (128, 64)),
            ("layers.1.mlp.down_proj.weight", (64, 64)),
            ("layers.0.input_layernorm.weight", (32,)),
            ("norm.weight", (32,)),
        ],
    )
    def test_whose_tensors_have_other_shapes_are_refused(
        self, tiny: Models, tmp_path: Path, name: str, shape: tuple[int, ...]
    ) -> None:
        folder = make_random_checkpoint(tmp_path / "model", SIZES["heads of 32"], "cpu") / "LLM"
        tensors = load_file(folder / "model.safetensors")
        tensors[f"model.{name}"] = torch.zeros(shape)
        save_file(tensors, folder / "model.safetensors")
        with pytest.raises(SetupError, match=r"does not fit config\.json"):
            FusedLanguageModel.load(folder, CPU, CpuLauncher())


def test_before_prompts_are_captured_garbage_is_frozen(
    tiny: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each capture looks at all that was imported."""
    happened: list[object] = []

    def captured(_work: object, pool: object) -> tuple[None, None]:
        happened.append(pool)
        return None, None

    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(gc, "freeze", lambda: happened.append("freeze"))
    monkeypatch.setattr(module, "captured", captured)
    tiny.fused.capture(tiny.fused.new_cache(1, POSITIONS))
    assert happened == ["freeze", *["pool"] * len(PROMPT_SIZES)]

    def test_that_the_memory_does_not_hold_are_not_called_wrong(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = make_random_checkpoint(tmp_path / "model", SIZES["heads of 32"], "cpu") / "LLM"

        def no_memory(*_given: object, **_named: object) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(FusedLayer, "of", no_memory)
        with pytest.raises(torch.OutOfMemoryError):
            FusedLanguageModel.load(folder, CPU, CpuLauncher())


class TestShares:
    def test_of_warps_do_not_depend_on_tokens(self) -> None:
        assert kernels.warps_for("project", 896) == 7
        assert kernels.warps_for("add", 4864) == 16
        assert kernels.warps_for("gate", 32) == 1

    def test_of_blocks_are_even(self) -> None:
        assert kernels.blocks_for(8, 608, 1, 132) == 203  # of three tiles
        assert kernels.blocks_for(8, 56, 1, 132) == 56
        assert kernels.blocks_for(64, 608, 1000, 132) == 1
