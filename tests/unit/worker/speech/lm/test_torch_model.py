"""The language model in torch against Qwen2's formulas: rows, positions and caches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.language_model import (
    SMALL,
    config_of,
    hidden_states,
    make_tensors,
    write_model,
)
from worker.errors import SetupError
from worker.speech.batch.sampling import Sampling
from worker.speech.batch.scheduler import Scheduler
from worker.speech.batch.sequence import SequenceRequest
from worker.speech.grammar import Grammar
from worker.speech.lm.config import LMConfig
from worker.speech.lm.kv_cache import KVCache
from worker.speech.lm.rotary import rotary
from worker.speech.lm.torch_model import LanguageModel, RMSNorm

CPU = torch.device("cpu")
CONFIG, TENSORS = config_of(), make_tensors()
POSITIONS = CONFIG.max_position_embeddings
PROMPTS = [[5, 6, 7, 8, 9], [11], [3, 2, 30]]  # of different lengths, the shortest not at an end


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = write_model(tmp_path_factory.mktemp("lm"), TENSORS)
    return LanguageModel.load(folder, torch.float32, CPU)


def expected(ids: list[int]) -> Tensor:
    """The hidden state after the last of the tokens."""
    return torch.from_numpy(hidden_states(TENSORS, CONFIG, ids)[-1]).float()


def close(ours: Tensor, theirs: Tensor) -> bool:
    return bool(torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4))


def test_each_prompt_of_a_batch_ends_in_its_own_state(lm: LanguageModel) -> None:
    states = lm.prefill(PROMPTS, lm.new_cache(3, POSITIONS))
    assert states.shape == (3, CONFIG.hidden_size)
    for state, prompt in zip(states, PROMPTS, strict=True):
        assert close(state, expected(prompt))


def test_a_step_gives_each_row_its_next_token_at_its_own_position(lm: LanguageModel) -> None:
    cache = lm.new_cache(3, POSITIONS)
    lm.prefill(PROMPTS, cache)
    rows = [list(prompt) for prompt in PROMPTS]
    for step in range(4):
        ids, at = [step + 1, 20 - step, 33], [len(row) for row in rows]
        states = lm.step(torch.tensor(ids), torch.tensor(at), cache, max(at) + 1)
        for row, token in zip(rows, ids, strict=True):
            row.append(token)
        for state, row in zip(states, rows, strict=True):
            assert close(state, expected(row))


def test_all_positions_at_once_and_what_is_looked_at_of_the_cache(lm: LanguageModel) -> None:
    ids = PROMPTS[0]
    positions = torch.arange(len(ids))[None]
    theirs = torch.from_numpy(hidden_states(TENSORS, CONFIG, ids)).float()
    for length in (len(ids), 32):  # just enough; more than enough
        assert close(
            lm(torch.tensor([ids]), positions, lm.new_cache(1, POSITIONS), length)[0], theirs
        )


def test_a_row_does_not_see_what_its_place_held_before(lm: LanguageModel) -> None:
    cache = lm.new_cache(1, POSITIONS)
    lm.prefill([list(range(30))], cache)
    assert close(lm.prefill([PROMPTS[0]], cache)[0], expected(PROMPTS[0]))
    state = lm.step(torch.tensor([4]), torch.tensor([5]), cache, 32)
    assert close(state[0], expected([*PROMPTS[0], 4]))


def test_some_rows_of_a_cache_leave_the_others_alone(lm: LanguageModel) -> None:
    cache = lm.new_cache(4, POSITIONS)
    lm.prefill([PROMPTS[0]], cache.rows(1, 1))
    lm.prefill(PROMPTS[1:], cache.rows(2, 2))
    assert cache.rows(1, 3).keys.shape[1] == 3
    assert not cache.keys[:, 0].any()
    ids = torch.tensor([1, 2, 3])
    states = lm.step(ids, torch.tensor([5, 1, 3]), cache.rows(1, 3), 6)
    for state, prompt, token in zip(states, PROMPTS, (1, 2, 3), strict=True):
        assert close(state, expected([*prompt, token]))


def test_a_copied_row_goes_on_as_its_source_and_no_position_more_is_copied(
    lm: LanguageModel,
) -> None:
    cache = lm.new_cache(3, POSITIONS)
    lm.prefill([PROMPTS[0]], cache.rows(2, 1))
    cache.keys[:, 0] = cache.values[:, 0] = 9
    cache.copy(2, 0, 5)
    state = lm.step(torch.tensor([4]), torch.tensor([5]), cache.rows(0, 1), 6)
    assert close(state[0], expected([*PROMPTS[0], 4]))
    assert (cache.keys[:, 0, 6:] == 9).all()
    assert (cache.values[:, 0, 6:] == 9).all()
    assert not cache.keys[:, 1].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_new_cache_is_zeros_of_the_weights_kind(dtype: torch.dtype) -> None:
    cache = KVCache.empty(CONFIG, 3, 7, torch.zeros(1, dtype=dtype))
    for part in (cache.keys, cache.values):
        assert part.shape == (2, 3, 7, 1, 32)
        assert part.dtype == dtype
        assert not part.any()


def test_a_cache_has_the_positions_that_are_asked_for(lm: LanguageModel) -> None:
    cache = lm.new_cache(2, 17)
    assert cache.keys.shape[1:3] == (2, 17)
    assert (cache.positions, cache.free, cache.reserve(1, 3)) == (17, None, 17)


def test_prompts_are_read_whole(lm: LanguageModel) -> None:
    assert not lm.in_parts
    cache = lm.new_cache(2, POSITIONS)
    states = lm.prefill(PROMPTS[:2], cache, [0, 0])
    assert torch.equal(states, lm.prefill(PROMPTS[:2], lm.new_cache(2, POSITIONS)))
    with pytest.raises(ValueError, match="whole"):
        lm.prefill(PROMPTS[:2], cache, [0, 1])


def test_the_largest_position_can_be_used(lm: LanguageModel) -> None:
    ids = [token % 40 for token in range(40)]
    cache = lm.new_cache(1, POSITIONS)
    lm.prefill([ids[:39]], cache)
    state = lm.step(torch.tensor(ids[39:]), torch.tensor([39]), cache, 40)
    assert close(state[0], expected(ids))


def test_logits_are_by_the_embedding_where_it_is_tied(lm: LanguageModel) -> None:
    hidden = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    theirs = hidden @ TENSORS["model.embed_tokens.weight"].T
    assert close(lm.head(torch.arange(40))(hidden), theirs)
    chosen = torch.tensor([7, 0, 39])
    assert close(lm.head(chosen)(hidden), theirs[:, chosen])


@pytest.mark.parametrize("tied", [False, True])
def test_logits_are_by_a_head_of_its_own_where_the_file_has_one(tmp_path: Path, tied: bool) -> None:
    """So it is saved after training that has parted a tied model's head from its embedding."""
    tensors = make_tensors(tie_word_embeddings=False)
    folder = write_model(tmp_path, tensors, tie_word_embeddings=tied)
    lm = LanguageModel.load(folder, torch.float32, CPU)
    hidden = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    theirs = hidden @ tensors["lm_head.weight"].T
    assert close(lm.head(torch.arange(40))(hidden), theirs)
    assert close(lm.head(torch.tensor([3]))(hidden), theirs[:, [3]])


def test_a_tied_head_that_is_in_the_file_is_held_once(tmp_path: Path) -> None:
    copy = TENSORS["model.embed_tokens.weight"].clone()
    folder = write_model(tmp_path, TENSORS | {"lm_head.weight": copy})
    lm = LanguageModel.load(folder, torch.float32, CPU)
    assert lm.lm_head.weight.data_ptr() == lm.embed_tokens.weight.data_ptr()


def test_a_head_that_is_not_tied_must_be_there(tmp_path: Path) -> None:
    folder = write_model(tmp_path, TENSORS, tie_word_embeddings=False)
    with pytest.raises(SetupError, match=r"(?s)does not fit its config.*lm_head\.weight"):
        LanguageModel.load(folder, torch.float32, CPU)


def without(name: str) -> dict[str, Tensor]:
    return {other: tensor for other, tensor in TENSORS.items() if other != name}


@pytest.mark.parametrize(
    ("tensors", "named"),
    [
        (without("model.norm.weight"), "norm.weight"),
        (without("model.embed_tokens.weight"), "embed_tokens.weight"),
        (TENSORS | {"model.extra": torch.zeros(1)}, "extra"),
        (TENSORS | {"model.norm.weight": torch.zeros(3)}, "norm.weight"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    tmp_path: Path, tensors: dict[str, Tensor], named: str
) -> None:
    folder = write_model(tmp_path, tensors)
    with pytest.raises(SetupError, match=f"(?s)does not fit its config.*{named}"):
        LanguageModel.load(folder, torch.float32, CPU)


def test_a_norm_of_nothing_is_nothing_and_of_large_halves_is_finite() -> None:
    norm = RMSNorm(CONFIG)
    norm.weight.data = torch.ones(64)
    assert not norm(torch.zeros(1, 64)).any()
    norm.weight.data = norm.weight.data.half()
    large = torch.full((1, 64), -300.0).half()  # whose squares are beyond float16
    assert norm(large).dtype == torch.float16
    assert (norm(large) == -1).all()


def test_weights_are_of_the_kind_asked_for_and_not_to_be_trained(tmp_path: Path) -> None:
    lm = LanguageModel.load(write_model(tmp_path, TENSORS), torch.bfloat16, CPU)
    assert {parameter.dtype for parameter in lm.parameters()} == {torch.bfloat16}
    assert not any(parameter.requires_grad for parameter in lm.parameters())
    assert not lm.training
    state = lm.prefill([PROMPTS[0]], lm.new_cache(1, POSITIONS))[0]
    assert state.dtype == torch.bfloat16
    assert (state.float() - expected(PROMPTS[0])).abs().mean() < 0.05


def test_rotations_are_of_each_position_in_float32() -> None:
    cos, sin = rotary(CONFIG, torch.tensor([[0, 3], [39, 1]]))
    angles = np.array([[0, 3], [39, 1]])[..., None] * 100.0 ** (-np.arange(16) / 16)
    np.testing.assert_allclose(cos, np.cos(angles), atol=1e-5)
    np.testing.assert_allclose(sin, np.sin(angles), atol=1e-5)
    assert cos.dtype == sin.dtype == torch.float32


def config_file(tmp_path: Path, raw: dict[str, Any]) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(raw))
    return path


def test_a_config_gives_its_sizes_and_the_rest_is_left_out(tmp_path: Path) -> None:
    raw = SMALL | {"use_sliding_window": False, "rope_scaling": None, "bos_token_id": 1}
    config = LMConfig.read(config_file(tmp_path, raw))
    assert config == CONFIG
    assert config.head_dim == 32


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "llama"}, "model_type is 'llama', not qwen2"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', not silu"),
        ({"use_sliding_window": True}, "sliding windows"),
        ({"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}, "windows"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding windows"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, r"rope scaling \(yarn\)"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 4.0}}, r"rope scaling \(llama3\)"),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 100.0}}, r"scaling \(linear\)"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 100.0}}}, "differs by layer"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, "100.0 and 10000.0"),
    ],
)
def test_another_architecture_is_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(SetupError, match=words):
        LMConfig.read(config_file(tmp_path, SMALL | change))


ROPE_5: dict[str, Any] = {"rope_theta": 100.0, "rope_type": "default"}


@pytest.mark.parametrize(
    "change",
    [
        {"rope_scaling": {"rope_type": "default"}},  # transformers 4
        {"rope_theta": 100, "rope_parameters": None},
        {"rope_parameters": {"rope_type": "default"}},
        {"rope_theta": None, "rope_parameters": ROPE_5},  # transformers 5
        {"rope_parameters": ROPE_5},
        {"hidden_act": "silu", "layer_types": ["full_attention"] * 2},
        {"use_sliding_window": True, "sliding_window": None},
        {"use_sliding_window": False, "sliding_window": 8, "max_window_layers": 0},
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2},
        # transformers 4 and 5, where the layers that slide begin behind the last one
        {
            "use_sliding_window": True,
            "sliding_window": 8,
            "max_window_layers": 28,
            "layer_types": ["full_attention"] * 2,
        },
    ],
)
def test_other_spellings_of_the_same_model_are_the_same(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    assert LMConfig.read(config_file(tmp_path, SMALL | change)) == CONFIG


def test_a_base_that_only_transformers_5_knows_of_is_read(tmp_path: Path) -> None:
    raw = {name: value for name, value in SMALL.items() if name != "rope_theta"}
    assert LMConfig.read(config_file(tmp_path, raw | {"rope_parameters": ROPE_5})) == CONFIG
    for nothing in (None, {}, {"rope_type": "default"}, {"rope_theta": None}):
        with pytest.raises(SetupError, match="lacks 'rope_theta'"):
            LMConfig.read(config_file(tmp_path, raw | {"rope_parameters": nothing}))


@pytest.mark.parametrize("size", sorted(set(SMALL) - {"model_type"}))
def test_a_size_that_is_missing_is_named(tmp_path: Path, size: str) -> None:
    raw = {name: value for name, value in SMALL.items() if name != size}
    with pytest.raises(SetupError, match=f"lacks '{size}'"):
        LMConfig.read(config_file(tmp_path, raw))


# Numbers that are none


def test_a_scrubbed_cache_has_all_that_was_a_number() -> None:
    cache = KVCache.empty(CONFIG, 3, 7, torch.zeros(1, dtype=torch.bfloat16))
    cache.keys.normal_()
    cache.values.normal_()
    kept = cache.keys.clone(), cache.values.clone()
    cache.keys[:, 1, 2:], cache.values[0, 2] = float("nan"), float("-inf")
    cache.scrub()
    for part, was, lost in (
        (cache.keys, kept[0], (slice(None), 1, slice(2, None))),
        (cache.values, kept[1], (0, 2)),
    ):
        was[lost] = 0
        assert torch.equal(part, was)


# Seeds


def test_a_seed_says_the_same_whatever_top_k_a_neighbour_has(tiny_checkpoint: Path) -> None:
    """In bfloat16, where logits would tie: the head is in float32."""
    lm = LanguageModel.load(tiny_checkpoint / "LLM", torch.bfloat16, CPU)
    everything = Grammar((frozenset(range(20, 700)),) * 200)
    mine = SequenceRequest((5, 6, 7, 8), "mine", 120)
    said = []
    for top_k in (50, 1, 63, 64, 65, 0):
        scheduler = Scheduler(lm, 2, 512)
        (asked,) = scheduler.submit([mine], everything, Sampling(seed=3))
        scheduler.submit(
            [SequenceRequest((9, 9), "other", 150)], everything, Sampling(seed=4, top_k=top_k)
        )
        said.append(asked.answer().tokens)
    assert len(said[0]) == 120
    assert all(tokens == said[0] for tokens in said)


def test_logits_are_float32_of_the_weights_as_they_are(tiny_checkpoint: Path) -> None:
    lm = LanguageModel.load(tiny_checkpoint / "LLM", torch.bfloat16, CPU)
    ids = torch.arange(100, 300)
    hidden = torch.randn(3, lm.config.hidden_size).to(torch.bfloat16)
    logits = lm.head(ids)(hidden)
    assert logits.dtype == torch.float32
    exact = hidden.double() @ lm.lm_head.weight[ids].double().T
    torch.testing.assert_close(logits.double(), exact, rtol=1e-5, atol=1e-5)


# Joined matrices, as on a GPU


def test_joined_matrices_give_the_same_states(tmp_path: Path) -> None:
    folder = write_model(tmp_path, TENSORS)
    states = []
    for join in (False, True):
        lm = LanguageModel.load(folder, torch.float32, CPU)
        if join:
            lm.join()
        cache = lm.new_cache(len(PROMPTS), 20)
        hidden = lm.prefill(PROMPTS, cache)
        at = torch.tensor([len(prompt) for prompt in PROMPTS])
        states += [torch.stack([hidden, lm.step(torch.tensor([4, 8, 15]), at, cache, 10)])]
    assert not hasattr(lm.layers[0].self_attn, "q_proj")  # no second copy of the weights
    torch.testing.assert_close(states[1], states[0], rtol=1e-5, atol=1e-5)
