"""Our decoder and our draws against transformers' Qwen2 and its logits warpers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scipy.stats import chisquare
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    Qwen2ForCausalLM,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from worker.speech.batch.sampling import Sampling, candidates
from worker.speech.batch.scheduler import answer
from worker.speech.batch.sequence import SequenceRequest
from worker.speech.grammar import Grammar
from worker.speech.lm.torch_model import LanguageModel

CPU = torch.device("cpu")
STEPS, FULL_SIZE_STEPS = 200, 50
FALSE_ALARM = 1e-6  # of the statistical test: once in a million correct samplers
GREEDY = Sampling(temperature=0)
PROMPT_LENGTHS = (7, 31, 2, 18, 31)


class Allowed(LogitsProcessor):
    """The same grammar as a plan's, in transformers' terms."""

    def __init__(self, plan: Grammar, prompt_length: int) -> None:
        self.plan = plan
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        step = min(input_ids.shape[1] - self.prompt_length, len(self.plan.steps) - 1)
        mask = torch.full_like(scores, float("-inf"))
        mask[:, sorted(self.plan.steps[step])] = 0
        return scores + mask


@pytest.fixture(scope="module")
def ours(checkpoint: Path) -> LanguageModel:
    return LanguageModel.load(checkpoint / "LLM", torch.float32, CPU)


@pytest.fixture(scope="module")
def theirs(checkpoint: Path) -> Qwen2ForCausalLM:
    return Qwen2ForCausalLM.from_pretrained(checkpoint / "LLM", dtype=torch.float32).eval()


def prompts(lm: LanguageModel) -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    size = lm.config.vocab_size
    return [torch.randint(size, (n,), generator=generator).tolist() for n in PROMPT_LENGTHS]


def plan(lm: LanguageModel) -> Grammar:
    """A forced token, then a third of the vocabulary, then that and an end."""
    some = frozenset(range(5, lm.config.vocab_size, 3))
    end = 4
    return Grammar(steps=(frozenset({6}), some, some | {end}), end=end)


def length(lm: LanguageModel) -> int:
    """Tokens of a greedy answer; transformers makes some two a second at full size."""
    return STEPS if lm.config.hidden_size < 500 else FULL_SIZE_STEPS


def generate(
    model: Qwen2ForCausalLM, batch: list[list[int]], plan: Grammar, steps: int
) -> list[list[int]]:
    """Transformers' greedy answers to a batch, padded on the left."""
    longest = max(map(len, batch))
    ids = torch.tensor([[0] * (longest - len(p)) + p for p in batch])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in batch])
    out = model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=steps,
        do_sample=False,
        eos_token_id=plan.end,
        pad_token_id=0,
        logits_processor=LogitsProcessorList([Allowed(plan, longest)]),
    )
    answers = [row[longest:].tolist() for row in out]
    return [a[: a.index(plan.end)] if plan.end in a else a for a in answers]


def test_logits_are_transformers(ours: LanguageModel, theirs: Qwen2ForCausalLM) -> None:
    ids = torch.tensor([prompts(ours)[1]])
    positions = torch.arange(ids.shape[1])[None]
    with torch.inference_mode():
        head = ours.head(torch.arange(ours.config.vocab_size))
        length = ids.shape[1]
        logits = head(ours(ids, positions, ours.new_cache(1, length), length))
        expected = theirs(ids).logits
    difference = (logits - expected).abs().max().item()
    print(f"greatest logit difference {difference:.2e} of {expected.abs().max().item():.1f}")
    assert difference < 1e-4 * expected.abs().max().item()


def test_greedy_tokens_are_transformers(ours: LanguageModel, theirs: Qwen2ForCausalLM) -> None:
    for prompt in prompts(ours)[:2]:
        rows = [SequenceRequest(tuple(prompt), "row", length(ours))]
        (answered,) = answer(ours, rows, plan(ours), GREEDY)
        assert list(answered.tokens) == generate(theirs, [prompt], plan(ours), length(ours))[0]
        assert len(answered.tokens) >= 2


def test_greedy_tokens_in_a_padded_batch(ours: LanguageModel, theirs: Qwen2ForCausalLM) -> None:
    batch = prompts(ours)
    rows = [SequenceRequest(tuple(p), f"row {i}", length(ours)) for i, p in enumerate(batch)]
    answers = answer(ours, rows, plan(ours), GREEDY)
    assert [list(a.tokens) for a in answers] == generate(theirs, batch, plan(ours), length(ours))


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(0.8, 50, 0.95), (1.0, 0, 1.0), (1.3, 5, 0.6), (0.2, 1, 0.5), (0.7, 0, 0.9), (1, 40, 1e-6)],
)
def test_probabilities_are_transformers(temperature: float, top_k: int, top_p: float) -> None:
    logits = 3 * torch.randn(200, 300, generator=torch.Generator().manual_seed(1))
    scores = logits / temperature
    warpers = LogitsProcessorList([TemperatureLogitsWarper(float(temperature))])
    if top_k:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        warpers.append(TopPLogitsWarper(top_p))
    expected = warpers(None, logits.clone()).softmax(-1)
    probabilities, places = candidates(logits, Sampling(temperature, top_k, top_p))
    ours = torch.zeros_like(scores).scatter(-1, places, probabilities)
    assert ((ours > 0) == (expected > 0)).all()
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)


def test_draws_follow_transformers_distribution(
    ours: LanguageModel, theirs: Qwen2ForCausalLM
) -> None:
    """Many answers of one token, against the exact probabilities, by a chi-square test."""
    count, chunk = (8_000, 500) if ours.config.hidden_size < 500 else (500, 50)
    prompt = prompts(ours)[0]
    allowed = plan(ours).steps[1]
    sampling = Sampling(temperature=1.0, top_k=50, top_p=0.95, seed=11)
    with torch.inference_mode():
        scores = theirs(torch.tensor([prompt])).logits[:, -1]
    mask = torch.full_like(scores, float("-inf"))
    mask[:, sorted(allowed)] = 0
    warpers = LogitsProcessorList([TopKLogitsWarper(50), TopPLogitsWarper(0.95)])
    expected = warpers(None, scores + mask).softmax(-1)[0]
    seen = torch.zeros(len(expected), dtype=torch.float64)
    for start in range(0, count, chunk):
        rows = [SequenceRequest(tuple(prompt), f"sentence {start + i}", 1) for i in range(chunk)]
        for answered in answer(ours, rows, Grammar(steps=(allowed,)), sampling):
            seen[answered.tokens[0]] += 1
    assert seen[expected == 0].sum() == 0
    likely = expected > 0
    assert likely.sum() > 5
    share = expected[likely].double()
    result = chisquare(seen[likely], share / share.sum() * count)
    print(f"chi-square p = {result.pvalue:.3f} over {int(likely.sum())} tokens")
    assert result.pvalue > FALSE_ALARM
