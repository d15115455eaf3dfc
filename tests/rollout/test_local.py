"""The local generator against plain transformers forwards, and against itself in other batches and orders."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from peft import LoraConfig, get_peft_model

from tests.rollout.conftest import CONTEXT, build, exact_logprobs, prepared
from tutelage.data.order import rows_for_step
from tutelage.models.decode import Decoding
from tutelage.records import Prompt, Response
from tutelage.rollout import decode as decoding_loop
from tutelage.rollout import local
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator

KINDS = ("llama", "gpt2", "qwen", "neox")
SAMPLING = Sampling(max_new_tokens=24, temperature=0.8, samples=3, seed=5)


@pytest.fixture(scope="module")
def generator(tokenizer):
    return LocalGenerator(_often_ending(prepared("llama"), tokenizer), tokenizer)


def _often_ending(model, tokenizer, bias: float = 4.0):
    """Make the end token likely: rows end at different steps, so that finished ones are dropped all along."""
    head = getattr(model, "host", model).get_output_embeddings()
    head.bias = torch.nn.Parameter(torch.zeros(head.out_features))
    head.bias.data[tokenizer.eos_token_id] = bias
    return model


def _essence(response: Response) -> tuple:
    return response.prompt, response.sample_index, response.ids, response.finish, response.text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_a_plain_unpadded_forward(kind, temperature, tokenizer, prompts):
    model = _often_ending(prepared(kind), tokenizer)
    plain = _often_ending(build(kind), tokenizer)
    sampling = Sampling(max_new_tokens=24, temperature=temperature, samples=3, seed=1)
    responses = LocalGenerator(model, tokenizer).generate(prompts, sampling)
    assert len({len(r.ids) for r in responses}) > 4, "rows end at different steps, so compaction was active"
    for response in responses:
        expected = exact_logprobs(plain, response.prompt_ids, response.ids, temperature)
        torch.testing.assert_close(torch.tensor(response.logprobs).double(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_is_transformers_greedy(kind, tokenizer, prompts):
    plain = build(kind)
    sampling = Sampling(max_new_tokens=16, temperature=0)
    for response in LocalGenerator(prepared(kind), tokenizer).generate(prompts, sampling):
        ids = torch.tensor([response.prompt_ids])
        out = plain.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=16,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        assert list(response.ids) == out[0, ids.shape[1] :].tolist()
        expected = exact_logprobs(plain, response.prompt_ids, response.ids, 1.0)
        torch.testing.assert_close(torch.tensor(response.logprobs).double(), expected, atol=1e-4, rtol=0)


def test_a_response_does_not_depend_on_its_batch_or_order(generator, tokenizer, prompts, monkeypatch):
    together = generator.generate(prompts, SAMPLING)
    assert [(r.prompt, r.sample_index) for r in together] == [(p, k) for p in prompts for k in range(3)]
    backwards = generator.generate(prompts[::-1], SAMPLING)
    alone = [r for p in prompts for r in generator.generate([p], SAMPLING)]
    monkeypatch.setattr(
        local, "MAX_ROWS", 2
    )  # fewer rows than samples: those of one prompt fall into several batches
    split = generator.generate(prompts, SAMPLING)
    expected = [_essence(r) for r in together]
    assert [_essence(r) for r in alone] == expected
    assert [_essence(r) for r in split] == expected
    assert sorted(map(_essence, backwards), key=str) == sorted(expected, key=str)


def test_stopping_equals_truncating_a_response_of_full_length(generator, tokenizer, prompts, monkeypatch):
    stopped = generator.generate(prompts, SAMPLING)
    monkeypatch.setattr(local, "end_ids", lambda host, tokenizer: [])
    eos = tokenizer.eos_token_id
    for short, full in zip(stopped, generator.generate(prompts, SAMPLING), strict=True):
        assert len(full.ids) == 24 and full.finish == "length"
        cut = full.ids.index(eos) + 1 if eos in full.ids else 24
        assert short.ids == full.ids[:cut]
        assert short.finish == ("eos" if eos in full.ids else "length")
        assert short.logprobs == pytest.approx(full.logprobs[:cut], abs=1e-5)


def test_a_longer_limit_continues_the_same_response(generator, prompts):
    shorter = generator.generate(prompts, dataclasses.replace(SAMPLING, max_new_tokens=6))
    for short, long in zip(shorter, generator.generate(prompts, SAMPLING), strict=True):
        assert long.ids[: len(short.ids)] == short.ids


@pytest.mark.parametrize("change", [{"seed": 6}, {"step": 1}])
def test_other_seeds_and_steps_give_other_responses(generator, prompts, change):
    before = generator.generate(prompts, SAMPLING)
    after = generator.generate(prompts, dataclasses.replace(SAMPLING, **change))
    assert sum(a.ids == b.ids for a, b in zip(before, after, strict=True)) < len(before) / 3


def test_samples_of_a_prompt_differ(generator):
    responses = generator.generate([Prompt("what")], dataclasses.replace(SAMPLING, samples=8))
    assert len({r.ids for r in responses}) > 5


def test_a_prompt_that_stands_several_times_gets_samples_of_its_own(generator, prompts, monkeypatch):
    """The k-th place of a prompt goes on with its samples, whatever stands between, before and beside it."""
    alone = {p.id: generator.generate([p], dataclasses.replace(SAMPLING, samples=9)) for p in prompts}
    mixed = [*prompts, *prompts[::-1], prompts[2], Prompt("not among them"), *prompts[:2]]
    for rows in (local.MAX_ROWS, 2):  # in one batch, and in many
        monkeypatch.setattr(local, "MAX_ROWS", rows)
        places: dict[str, int] = {}
        found = generator.generate(mixed, SAMPLING)
        for i, prompt in enumerate(mixed):
            place = places.setdefault(prompt.id, 0)
            places[prompt.id] += 1
            own = found[3 * i : 3 * i + 3]
            assert [r.sample_index for r in own] == [3 * place + k for k in range(3)]
            if prompt.id in alone:
                expected = alone[prompt.id][3 * place : 3 * place + 3]
                assert [_essence(r) for r in own] == [_essence(r) for r in expected]


def test_the_same_content_under_two_tasks_is_one_prompt(generator):
    first, again = generator.generate([Prompt("what", task="a"), Prompt("what", task="b")], Sampling(24))
    assert first.ids != again.ids and (first.sample_index, again.sample_index) == (0, 1)


def test_more_prompts_a_step_than_there_are(generator, prompts):
    """64 from a file of 6: no two responses to a prompt share their draws."""
    step = [prompts[row] for row in rows_for_step(len(prompts), 64, step=3, seed=0)]
    responses = generator.generate(step, Sampling(max_new_tokens=24, seed=5))
    by_prompt: dict[str, list[tuple[int, ...]]] = {}
    for response in responses:
        by_prompt.setdefault(response.prompt.id, []).append(response.ids)
    assert all(len(set(found)) > 4 for found in by_prompt.values())  # some end at once, and are alike
    assert len({(r.prompt.id, r.sample_index) for r in responses}) == 64


def test_every_end_token_ends_a_response(tokenizer, prompts):
    model = prepared("llama")
    free = LocalGenerator(model, tokenizer).generate(prompts, SAMPLING)
    other = free[0].ids[3]
    model.host.generation_config.eos_token_id = [tokenizer.eos_token_id, other]
    for response, before in zip(
        LocalGenerator(model, tokenizer).generate(prompts, SAMPLING), free, strict=True
    ):
        assert response.ids == before.ids[: before.ids.index(other) + 1 if other in before.ids else None]
        assert response.finish == ("eos" if response.ids[-1] in (other, tokenizer.eos_token_id) else "length")


def test_text_leaves_out_special_tokens_and_ids_keep_them(generator, tokenizer, prompts):
    ended = [r for r in generator.generate(prompts, SAMPLING) if r.finish == "eos"]
    assert ended and all(r.ids[-1] == tokenizer.eos_token_id for r in ended)
    for response in ended:
        words = [i for i in response.ids if i not in tokenizer.all_special_ids]
        assert response.text == tokenizer.decode(words)


def test_prompts_that_do_not_fit_are_named(tokenizer):
    generator = LocalGenerator(
        prepared("gpt2"), tokenizer
    )  # learned positions: one too many would be an index error
    fits, long = Prompt("what"), Prompt("0" * (CONTEXT - 23))
    with pytest.raises(
        ValueError, match=rf"Prompt 1 .*{long.id}.*has 73 tokens.*max_new_tokens=24.*context of 96"
    ):
        generator.generate([fits, long], SAMPLING)
    with pytest.raises(ValueError, match=r"Prompt 0 .*no tokens"):
        generator.generate([Prompt("")], SAMPLING)
    longest = generator.generate([Prompt("0" * (CONTEXT - 24))], SAMPLING)
    assert len(longest) == 3 and max(len(r.ids) for r in longest) == 24


def test_no_prompts_no_responses(generator):
    assert generator.generate([], SAMPLING) == []


@pytest.fixture
def watched(monkeypatch):
    """The decodings that are made, each with the rows and the bytes of its cache at every step, and the rows it replaced."""
    made = []

    class Watched(Decoding):
        def __init__(self, *args):
            super().__init__(*args)
            self.taken, self.replaced = [], 0
            made.append(self)

        def step(self, tokens):
            logits = super().step(tokens)
            stored = [t for pair in self._rows.cache.stored.values() for t in pair]
            self.taken.append((self.rows, sum(t.nbytes for t in stored)))
            return logits

        def replace(self, rows, prompts, counts):
            self.replaced += len(rows)
            super().replace(rows, prompts, counts)

    monkeypatch.setattr(decoding_loop, "Decoding", Watched)
    return made


@pytest.mark.parametrize("kind", ["llama", pytest.param("qwen", marks=pytest.mark.slow)])
def test_finished_rows_are_given_to_waiting_prompts(kind, tokenizer, prompts, watched, monkeypatch):
    """The same draws give the same tokens as where batches are finished one by one, in every order of the prompts."""
    model = _often_ending(prepared(kind), tokenizer, bias=2.5)
    plain = _often_ending(build(kind), tokenizer, bias=2.5)
    many = [*prompts, *(Prompt(text) for text in ("0123", "by the sea hello", "x", "a a a a a a", "is it"))]
    generator = LocalGenerator(model, tokenizer)
    monkeypatch.setattr(local, "MAX_ROWS", 8)
    found = generator.generate(many, SAMPLING)
    assert len(watched) == 1 and watched[0].replaced > 3 * len(many) - 8 - 3
    assert max(rows for rows, _ in watched[0].taken) <= 8
    backwards = generator.generate(many[::-1], SAMPLING)
    monkeypatch.setattr(Decoding, "admits", False)
    apart = generator.generate(many, SAMPLING)
    assert len(watched) > 4 and watched[-1].replaced == 0
    assert [_essence(r) for r in found] == [_essence(r) for r in apart]
    assert sorted(map(_essence, backwards), key=str) == sorted(map(_essence, apart), key=str)
    for response in found:
        expected = exact_logprobs(plain, response.prompt_ids, response.ids, SAMPLING.temperature)
        torch.testing.assert_close(torch.tensor(response.logprobs).double(), expected, atol=1e-4, rtol=0)


def test_memory_bounds_the_rows_and_the_cache(tokenizer, prompts, watched):
    model = prepared("llama")
    expected = LocalGenerator(model, tokenizer).generate(prompts, SAMPLING)
    assert max(watched[0].taken)[0] == 18
    generator = LocalGenerator(model, tokenizer)
    generator._memory = 120_000
    assert [_essence(r) for r in generator.generate(prompts, SAMPLING)] == [_essence(r) for r in expected]
    rows, taken = (max(each) for each in zip(*watched[1].taken, strict=True))
    assert 1 <= rows < 18 and taken <= 120_000 and watched[1].replaced > 0


def test_more_samples_than_rows_go_in_parts(generator, prompts, watched, monkeypatch):
    expected = generator.generate(prompts, SAMPLING)
    for most in (1, 2, 5):
        watched.clear()
        monkeypatch.setattr(local, "MAX_ROWS", most)
        assert [_essence(r) for r in generator.generate(prompts, SAMPLING)] == [_essence(r) for r in expected]
        assert max(rows for decoding in watched for rows, _ in decoding.taken) <= most


def test_memory_that_shrinks_meanwhile_ends_nothing(generator, prompts, monkeypatch):
    """The rows are counted when jobs are made, and again when they are drawn."""
    sampling = Sampling(8, samples=4, seed=1)
    whole = generator.generate(prompts[:3], sampling)
    free = iter([256, *[2] * 9])
    monkeypatch.setattr(LocalGenerator, "_rows", lambda self, columns: next(free))
    assert [r.ids for r in generator.generate(prompts[:3], sampling)] == [r.ids for r in whole]


def test_prompts_are_computed_once_whatever_the_samples(tokenizer, prompts):
    model = prepared("llama")
    seen = []
    model.host.get_input_embeddings().register_forward_hook(
        lambda module, inputs, out: seen.append(inputs[0].numel())
    )
    responses = LocalGenerator(model, tokenizer).generate(prompts, SAMPLING)
    assert seen[0] == sum(len(r.prompt_ids) for r in responses if r.sample_index == 0)


def test_same_dtype_shares_the_weights_and_another_copies_them(tokenizer, prompts):
    policy = prepared("llama")
    shared, copied = (
        LocalGenerator(policy, tokenizer),
        LocalGenerator(policy, tokenizer, dtype=torch.bfloat16),
    )
    other = prepared("llama")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)), alpha=0.2
            )
    before = shared.generate(prompts, SAMPLING), copied.generate(prompts, SAMPLING)
    with torch.no_grad():  # train: the shared generator follows at once, the copy when it is told
        for parameter, target in zip(policy.parameters(), other.parameters(), strict=True):
            parameter.copy_(target)
    assert [r.ids for r in shared.generate(prompts, SAMPLING)] != [r.ids for r in before[0]]
    assert copied.generate(prompts, SAMPLING) == before[1]
    copied.sync(policy, 7)
    after = copied.generate(prompts, SAMPLING)
    fresh = LocalGenerator(other, tokenizer, dtype=torch.bfloat16, version=7)
    assert after == fresh.generate(prompts, SAMPLING) and after != before[1]
    assert {r.version for r in after} == {7}
    assert {p.dtype for p in policy.parameters()} == {torch.float32}, "the policy itself is left alone"
    shared.sync(other, 8)
    assert shared.generate(prompts, SAMPLING) == LocalGenerator(other, tokenizer, version=8).generate(
        prompts, SAMPLING
    )


def test_bfloat16_copy_stays_close_to_the_float32_policy(tokenizer, prompts):
    policy, plain = prepared("llama"), build("llama")
    responses = LocalGenerator(policy, tokenizer, dtype=torch.bfloat16).generate(prompts, SAMPLING)
    errors = [
        torch.tensor(r.logprobs).double() - exact_logprobs(plain, r.prompt_ids, r.ids, 0.8) for r in responses
    ]
    assert torch.cat(errors).abs().mean() < 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lora_policies(tokenizer, prompts, dtype):
    base = prepared("llama")
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    policy = base.with_model(get_peft_model(base.host, config).eval())
    generator = LocalGenerator(policy, tokenizer, dtype=dtype)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.mul_(0.5)
    generator.sync(policy, 1)
    merged = copy.deepcopy(policy.model).merge_and_unload()
    responses = generator.generate(prompts, SAMPLING)
    errors = torch.cat(
        [torch.tensor(r.logprobs).double() - exact_logprobs_of(merged, r) for r in responses]
    ).abs()
    assert errors.max() < 1e-4 if dtype == torch.float32 else errors.mean() < 0.1


def exact_logprobs_of(model, response: Response):
    model.set_attn_implementation("eager")
    return exact_logprobs(model, response.prompt_ids, response.ids, SAMPLING.temperature)


def test_progress_counts_the_tokens_and_responses(tokenizer, prompts):
    told = []
    model = _often_ending(prepared("llama"), tokenizer, bias=2.0)
    generator = LocalGenerator(
        model, tokenizer, progress=lambda tokens, responses: told.append((tokens, responses))
    )
    responses = generator.generate(prompts, SAMPLING)
    assert {r.finish for r in responses} == {"eos", "length"}
    assert sum(tokens for tokens, _ in told) == sum(len(r.ids) for r in responses)
    assert sum(count for _, count in told) == len(responses)


def test_training_mode_comes_back(tokenizer, prompts):
    model = prepared("llama").train()
    LocalGenerator(model, tokenizer).generate(prompts[:1], SAMPLING)
    assert model.training
