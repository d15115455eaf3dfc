"""Responses that go on from a beginning: against plain forwards, against `generate`, and whatever else is in the call."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from tests.rollout.conftest import CONTEXT, build, exact_logprobs, prepared
from tutelage.models import decode
from tutelage.records import Prompt, Response
from tutelage.rollout import local
from tutelage.rollout.generator import Prefix, Sampling
from tutelage.rollout.local import LocalGenerator

SAMPLING = Sampling(max_new_tokens=20, temperature=0.8, samples=3, seed=5)


def often_ending(model, tokenizer, bias: float = 4.0):
    head = getattr(model, "host", model).get_output_embeddings()
    head.bias = torch.nn.Parameter(torch.zeros(head.out_features))
    head.bias.data[tokenizer.eos_token_id] = bias
    return model


@pytest.fixture(scope="module")
def generator(tokenizer):
    return LocalGenerator(often_ending(prepared("llama"), tokenizer), tokenizer)


@pytest.fixture(scope="module")
def prefixes(prompts) -> list[Prefix]:
    """Of every prompt none, a short and a long beginning, up to all but one of the tokens that there may be."""
    random = np.random.default_rng(0)
    lengths = [0, 2, 7, 13, 19]
    return [
        Prefix(prompt, tuple(random.integers(5, 270, lengths[(i + k) % 5]).tolist()))
        for i, prompt in enumerate(prompts)
        for k in range(3)
    ]


def essence(response: Response) -> tuple:
    return response.prompt, response.prompt_ids, response.sample_index, response.ids, response.finish


@pytest.mark.slow
def test_without_a_beginning_it_is_generate(generator, prompts) -> None:
    assert generator.continue_from([Prefix(p) for p in prompts], SAMPLING) == generator.generate(
        prompts, SAMPLING
    )


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen", "neox"])
def test_logprobs_are_those_of_a_plain_forward_over_all_of_it(kind, tokenizer, prompts, prefixes) -> None:
    model, plain = (often_ending(made(kind), tokenizer, 2.0) for made in (prepared, build))
    found = LocalGenerator(model, tokenizer).continue_from(prefixes, SAMPLING)
    assert len(found) == 3 * len(prefixes) and {r.finish for r in found} == {"eos", "length"}
    for number, response in enumerate(found):
        prefix = prefixes[number // 3]
        assert response.prompt == prefix.prompt and response.sample_index == number % 3
        start = len(response.prompt_ids) - len(prefix.begun)
        assert response.prompt_ids[start:] == prefix.begun
        longest = SAMPLING.max_new_tokens - len(prefix.begun)
        assert len(response.ids) == longest if response.finish == "length" else len(response.ids) <= longest
        expected = exact_logprobs(plain, response.prompt_ids, response.ids, 0.8)
        torch.testing.assert_close(torch.tensor(response.logprobs).double(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_likeliest_response_goes_on_as_it_went(kind, tokenizer, prompts) -> None:
    """From any of its tokens on, greedy decoding gives what is left of it."""
    generator = LocalGenerator(often_ending(prepared(kind), tokenizer, 2.5), tokenizer)
    greedy = dataclasses.replace(SAMPLING, temperature=0.0, samples=1)
    whole = generator.generate(prompts, greedy)
    cuts = [(r, cut) for r in whole for cut in range(0, len(r.ids), 3)]
    found = generator.continue_from([Prefix(r.prompt, r.ids[:cut]) for r, cut in cuts], greedy)
    for (response, cut), rest in zip(cuts, found, strict=True):
        assert rest.ids == response.ids[cut:] and rest.finish == response.finish


@pytest.mark.slow
def test_it_does_not_depend_on_its_batch_or_order(generator, prefixes, monkeypatch) -> None:
    together = [essence(r) for r in generator.continue_from(prefixes, SAMPLING)]
    backwards = generator.continue_from(prefixes[::-1], SAMPLING)
    alone = [essence(r) for p in prefixes for r in generator.continue_from([p], SAMPLING)]
    assert alone == together
    assert sorted(map(essence, backwards), key=str) == sorted(together, key=str)
    for rows in (2, 8):
        monkeypatch.setattr(local, "MAX_ROWS", rows)
        assert [essence(r) for r in generator.continue_from(prefixes, SAMPLING)] == together


@pytest.mark.slow
def test_the_same_beginning_again_gets_other_samples(generator, prompts) -> None:
    one, other = Prefix(prompts[1], (7, 8)), Prefix(prompts[1], (7, 9))
    twice = generator.continue_from([one, other, one], SAMPLING)
    longer = generator.continue_from([one], dataclasses.replace(SAMPLING, samples=6))
    assert [essence(r) for r in twice[:3] + twice[6:]] == [essence(r) for r in longer]
    assert [r.sample_index for r in twice[3:6]] == [0, 1, 2]
    assert len({p.id for p in (one, other, Prefix(prompts[1]), Prefix(prompts[2], (7, 8)))}) == 4


def test_what_follows_a_beginning_has_the_policys_distribution(tokenizer) -> None:
    prefix, sampling = (
        Prefix(Prompt("what is"), (30, 31, 32)),
        Sampling(max_new_tokens=4, temperature=0.6, samples=4000),
    )
    found = LocalGenerator(prepared("llama"), tokenizer).continue_from([prefix], sampling)
    with torch.no_grad():
        logits = build("llama")(torch.tensor([found[0].prompt_ids])).logits[0, -1].double()
    expected = 4000 * (logits / 0.6).softmax(-1).numpy()
    observed = np.bincount([r.ids[0] for r in found], minlength=len(expected))
    rare = expected < 8
    seen, wanted = (np.append(x[~rare], x[rare].sum()) for x in (observed, expected))
    assert all(len(r.ids) == 1 for r in found) and len(wanted) > 5
    assert chisquare(seen, wanted).pvalue > 1e-3


def test_what_has_no_room_is_named(tokenizer) -> None:
    generator = LocalGenerator(prepared("gpt2"), tokenizer)
    sampling = Sampling(max_new_tokens=24)
    prompt = Prompt("0" * (CONTEXT - 24))
    assert len(generator.continue_from([Prefix(prompt, (5,) * 23)], sampling)[0].ids) == 1
    with pytest.raises(
        ValueError, match=rf"id {prompt.id}\) has an answer begun with 24 tokens, .*max_new_tokens=24"
    ):
        generator.continue_from([Prefix(prompt), Prefix(prompt, (5,) * 24)], sampling)
    with pytest.raises(ValueError, match=r"Prompt 1 .*has 73 tokens.*context of 96"):
        generator.continue_from([Prefix(prompt), Prefix(Prompt("0" * (CONTEXT - 23)), (5,))], sampling)
    assert generator.continue_from([], sampling) == []


@pytest.mark.parametrize("padded", [False, True])
def test_a_finished_row_outgrows_no_context_while_others_go_on(padded, tokenizer, monkeypatch) -> None:
    """One of nine has room for one token, and is too few to be dropped for its own sake; learned positions end at the context."""
    if padded:
        monkeypatch.setattr(decode, "_kind", lambda model: decode._PaddedRows)
    full = Prefix(Prompt("0" * (CONTEXT - 24)), (5,) * 23)
    others = [Prefix(Prompt("what"), (6 + k,)) for k in range(8)]
    found = LocalGenerator(prepared("gpt2"), tokenizer).continue_from([full, *others], Sampling(24))
    assert len(found[0].ids) == 1 and max(len(r.ids) for r in found) > 10
