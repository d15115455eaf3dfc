"""Inverse-CDF sampling against exact probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from tests.rollout.conftest import build, prepared
from tutelage.records import Prompt
from tutelage.rollout.draw import draw_tokens, row_uniforms
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator


@pytest.mark.slow
def test_the_first_two_tokens_have_the_policys_distribution(tokenizer):
    """4000 responses: first tokens against the exact softmax, and second tokens after the likeliest first one."""
    prompt, sampling = Prompt("what is"), Sampling(max_new_tokens=2, temperature=0.6, samples=4000, seed=2)
    responses = LocalGenerator(prepared("llama"), tokenizer).generate([prompt], sampling)
    plain = build("llama")
    prefix = list(responses[0].prompt_ids)
    first = [r.ids[0] for r in responses]
    _fits(plain, prefix, first, 0.6)
    likeliest = max(set(first), key=first.count)
    second = [r.ids[1] for r in responses if r.ids[0] == likeliest]
    assert len(second) > 300
    _fits(plain, [*prefix, likeliest], second, 0.6)


@torch.no_grad()
def _fits(model, prefix: list[int], drawn: list[int], temperature: float) -> None:
    """Chi-square; tokens expected fewer than 8 times are one class."""
    expected = (model(torch.tensor([prefix])).logits[0, -1].double() / temperature).softmax(-1).numpy() * len(
        drawn
    )
    observed = np.bincount(drawn, minlength=len(expected))
    rare = expected < 8
    observed = np.append(observed[~rare], observed[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    assert len(expected) > 5
    assert chisquare(observed, expected).pvalue > 1e-3


def test_each_token_owns_an_interval_as_long_as_its_probability():
    logits = torch.tensor([[0.3, -1.0, 2.0, 0.0]], dtype=torch.float64)
    edges = (logits / 0.5).softmax(-1).cumsum(-1)[0]
    middles = (torch.cat([torch.zeros(1, dtype=torch.float64), edges[:-1]]) + edges) / 2
    just_below, just_above = edges - 1e-5, edges[:-1] + 1e-5
    for uniforms, tokens in ((middles, range(4)), (just_below, range(4)), (just_above, range(1, 4))):
        drawn, logprobs = draw_tokens(logits.expand(len(uniforms), -1), uniforms.float(), 0.5)
        assert drawn.tolist() == list(tokens)
        torch.testing.assert_close(logprobs, (logits / 0.5).log_softmax(-1)[0, drawn].float())


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1.0 - 2.0**-24])
def test_tokens_without_probability_are_never_drawn(uniform):
    """Not even at the ends of the interval, where rounding tempts."""
    logits = torch.full((200, 2000), -torch.inf)
    allowed = torch.rand(200, 2000, generator=torch.Generator().manual_seed(0)) < 0.01
    logits[allowed] = torch.randn(int(allowed.sum()), generator=torch.Generator().manual_seed(1))
    tokens, logprobs = draw_tokens(logits, torch.full((200,), uniform), 1.0)
    assert allowed.gather(1, tokens[:, None]).all()
    assert logprobs.isfinite().all()


def test_greedy_scores_at_temperature_one():
    logits = torch.tensor([[0.0, 3.0, 1.0]])
    tokens, logprobs = draw_tokens(logits, torch.tensor([0.99]), 0.0)
    assert tokens.tolist() == [1]
    torch.testing.assert_close(logprobs, logits.log_softmax(-1)[:, 1])


def test_softmax_is_float32_for_bfloat16_logits():
    logits = torch.randn(4, 3000, generator=torch.Generator().manual_seed(0)).bfloat16()
    tokens, logprobs = draw_tokens(logits, torch.rand(4, generator=torch.Generator().manual_seed(1)), 0.7)
    exact = (logits.double() / 0.7).log_softmax(-1).gather(1, tokens[:, None]).squeeze(1)
    torch.testing.assert_close(logprobs.double(), exact, atol=1e-5, rtol=0)


def test_uniforms_belong_to_seed_step_prompt_and_sample():
    base = Sampling(max_new_tokens=5)
    rows = [
        row_uniforms(base, "p", 0),
        row_uniforms(base, "p", 1),
        row_uniforms(base, "q", 0),
        row_uniforms(Sampling(max_new_tokens=5, seed=1), "p", 0),
        row_uniforms(Sampling(max_new_tokens=5, step=1), "p", 0),
    ]
    assert len({row.tobytes() for row in rows}) == 5
    assert (row_uniforms(Sampling(max_new_tokens=9), "p", 0)[:5] == rows[0]).all()
    assert rows[0].dtype == np.float32 and all((row >= 0).all() and (row < 1).all() for row in rows)


@pytest.mark.parametrize(
    "wrong", [{"max_new_tokens": 0}, {"temperature": -1.0}, {"temperature": float("inf")}, {"samples": 0}]
)
def test_sampling_refuses_what_makes_no_sense(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Sampling(**{"max_new_tokens": 1, **wrong})
