"""The fused kernels with weights of 8 bits, run on a CPU, beside a model of just these weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support.cuda_on_cpu import CpuLauncher
from tests.support.random_checkpoint import Sizes, make_random_checkpoint
from tests.support.rounded_weights import with_rounded_weights
from worker.speech.cuda import lm as kernels
from worker.speech.lm.fused_model import FusedLanguageModel
from worker.speech.lm.fused_weights import Tiles, rounded, shares
from worker.speech.lm.torch_model import LanguageModel

CPU = torch.device("cpu")
POSITIONS = 256
SIZES = {
    "heads of 32": Sizes(hidden=64, heads=2, kv_heads=1, intermediate=96),
    "seven share a key": Sizes(hidden=448, heads=7, kv_heads=1, intermediate=160, layers=2),
    "heads of 128": Sizes(hidden=256, heads=2, kv_heads=2, intermediate=64, layers=2),
    "many inputs": Sizes(hidden=64, heads=1, kv_heads=1, intermediate=2208, layers=1),
}


@dataclass(frozen=True)
class Models:
    """One checkpoint, by each way of computing it."""

    int8: FusedLanguageModel
    fused: FusedLanguageModel  # in bfloat16
    exact: LanguageModel
    rounded: LanguageModel  # in float32, with weights of 8 bits


def load(folder: Path) -> Models:
    lm, launcher = folder / "LLM", CpuLauncher()
    return Models(
        FusedLanguageModel.load(lm, CPU, launcher, CpuLauncher(kernels.INT8_FILE)),
        FusedLanguageModel.load(lm, CPU, launcher),
        LanguageModel.load(lm, torch.float32, CPU),
        with_rounded_weights(lm),
    )


@pytest.fixture(scope="module", params=SIZES)
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("int8") / "model"
    return load(make_random_checkpoint(folder, SIZES[request.param], "cpu"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("int8") / "tiny"
    return load(make_random_checkpoint(folder, SIZES["heads of 32"], "cpu"))


def prompts_of(models: Models, *lengths: int) -> list[list[int]]:
    draws = torch.Generator().manual_seed(len(lengths))
    vocabulary = models.int8.config.vocab_size
    return [torch.randint(0, vocabulary, (n,), generator=draws).tolist() for n in lengths]


@torch.inference_mode()
def states(
    lm: FusedLanguageModel | LanguageModel, prompts: Sequence[Sequence[int]], steps: int = 3
) -> Tensor:
    """Hidden states [1 + steps, rows, D] after the prompts and after some tokens more."""
    cache = lm.new_cache(len(prompts), POSITIONS)
    for row in range(len(prompts)):
        cache.reserve(row, POSITIONS)
    cache.flush()
    rows = cache.rows(0, len(prompts))
    found = [lm.prefill(prompts, rows).float().clone()]
    at = torch.tensor([len(prompt) for prompt in prompts])
    for step in range(steps):
        ids = torch.tensor([(prompt[0] + 7 * step) % 90 for prompt in prompts])
        found.append(lm.step(ids, at + step, rows, POSITIONS).float().clone())
    return torch.stack(found)


def error(mine: Tensor, exact: Tensor) -> float:
    return float(((mine - exact).pow(2).mean() / exact.pow(2).mean()).sqrt())


@pytest.mark.slow("compiles the kernels for a CPU")
class TestNumbers:
    def test_are_those_of_the_rounded_weights(self, models: Models) -> None:
        """As near to them as the kernels in bfloat16 are to theirs: nothing else is lost."""
        prompts = prompts_of(models, 5, 40, 66, 1)
        mine = error(states(models.int8, prompts), states(models.rounded, prompts))
        assert mine < 1.3 * error(states(models.fused, prompts), states(models.exact, prompts))

    def test_are_a_few_times_as_far_from_the_exact_ones_as_those_in_bfloat16(
        self, models: Models
    ) -> None:
        prompts = prompts_of(models, 5, 40)
        exact = states(models.exact, prompts)
        mine, fused = (error(states(lm, prompts), exact) for lm in (models.int8, models.fused))
        assert fused < mine < 5 * fused

    def test_are_those_of_the_embedded_model(self, demo_checkpoint: Path) -> None:
        models = load(demo_checkpoint)
        prompts = prompts_of(models, 20, 33)
        mine, exact = states(models.int8, prompts), states(models.exact, prompts)
        assert error(mine, exact) < 0.03
        assert error(mine, states(models.rounded, prompts)) < 0.012

    @pytest.mark.parametrize("rows", [2, 9, 17, 33, 65])
    def test_of_a_row_are_the_same_in_any_company(self, tiny: Models, rows: int) -> None:
        prompts = prompts_of(tiny, *(3 + 5 * row % 31 for row in range(rows)))
        together = states(tiny.int8, prompts)
        for row in (0, rows // 2, rows - 1):
            assert torch.equal(states(tiny.int8, [prompts[row]])[:, 0], together[:, row])

    @torch.inference_mode()
    def test_of_steps_are_those_of_a_prompt(self, tiny: Models) -> None:
        (prompt,) = prompts_of(tiny, 50)
        cache = tiny.int8.new_cache(1, POSITIONS)
        cache.reserve(0, POSITIONS)
        cache.flush()
        tiny.int8.prefill([prompt[:30]], cache.rows(0, 1))
        for at in range(30, 50):
            ids, place = torch.tensor([prompt[at]]), torch.tensor([at])
            stepped = tiny.int8.step(ids, place, cache.rows(0, 1), POSITIONS)
        assert torch.equal(stepped[0].float(), states(tiny.int8, [prompt], steps=0)[0, 0])


@pytest.mark.slow("compiles the kernels for a CPU")
class TestKernels:
    def test_are_lm_cus_but_for_the_products(self, tiny: Models) -> None:
        every, products = (CpuLauncher(), CpuLauncher(kernels.INT8_FILE))
        lm = FusedLanguageModel(tiny.int8.config, tensors_of(tiny.exact), every, products)
        states(lm, prompts_of(tiny, 3), steps=1)
        assert set(every.launched) == {"embed_all", "attend_32", "finish_all"}
        assert {name.partition("_")[0] for name in products.launched} == {"project", "add", "gate"}
        assert all(name.endswith("_int8") for name in products.launched)

    def test_are_all_in_the_file(self) -> None:
        library = CpuLauncher(kernels.INT8_FILE).library
        assert all(hasattr(library, name) for name in kernels.INT8_KERNELS)


def tensors_of(lm: LanguageModel) -> dict[str, Tensor]:
    """As the file has them, in bfloat16."""
    named = {f"model.{name}": weight.bfloat16() for name, weight in lm.state_dict().items()}
    return named | {"lm_head.weight": named.pop("model.lm_head.weight")}


class TestWeights:
    def test_lie_as_lanes_read_them(self) -> None:
        weight = torch.randn(32, 160, generator=torch.Generator().manual_seed(1))
        tiles = Tiles.in_int8(weight, "gate")
        parts, scales = rounded(weight, 2)
        assert tiles.weights.shape == (2, 5, 8, 4, 2, 2, 2, 2)
        assert tiles.weights.dtype == torch.uint8
        # Tile, chunk, output, quarter, product, pair, input, half.
        for tile, chunk, g, t, product, pair, item, half in (
            (1, 0, 3, 2, 1, 0, 1, 1),
            (0, 1, 7, 0, 0, 1, 0, 0),
            (1, 4, 0, 3, 1, 1, 1, 0),
            (0, 2, 5, 1, 0, 0, 1, 1),
            (1, 3, 6, 2, 1, 1, 0, 1),
        ):
            output, at = 16 * tile + g, 32 * chunk + 8 * t + 4 * product + 2 * pair + item
            lies = tiles.weights[tile, chunk, g, t, product, pair, item]
            assert lies[half] % 128 == abs(parts[output + 8 * half, at])
            assert lies[1 - half] // 128 == (parts[output + 8 * half, at] < 0)
        assert tiles.scales is not None
        assert tiles.scales.shape == (2, 2, 16)
        assert tiles.scales[1, 0, 5] == scales[16 + 5, 0]
        assert tiles.scales[0, 1, 11] == scales[11, 1]

    def test_are_half_as_many_bytes(self) -> None:
        weight = torch.randn(32, 64).bfloat16()
        assert Tiles.of(weight).weights.nbytes == 2 * Tiles.in_int8(weight, "gate").weights.nbytes

    def test_are_rounded_to_the_nearest_of_255(self) -> None:
        weight = torch.randn(16, 160, generator=torch.Generator().manual_seed(1))
        parts, scales = rounded(weight, 2)
        first = [*range(32), *range(64, 96), *range(128, 160)]  # the first warp's inputs
        assert shares(weight, 2)[first].tolist() == [0] * 96
        assert shares(weight, 2).sum() == 64
        assert torch.equal(scales[:, 0], weight[:, first].abs().amax(1) / 127)
        assert parts[:, first].abs().amax(1).tolist() == [127] * 16
        of_inputs = scales[:, shares(weight, 2)]
        assert ((parts * of_inputs - weight).abs() <= of_inputs * 0.501).all()

    def test_of_an_output_without_any_are_zeros(self) -> None:
        parts, scales = rounded(torch.zeros(16, 32), 1)
        assert not parts.any()
        assert not scales.any()
