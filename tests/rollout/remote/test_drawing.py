"""What servers draw is what the local generator draws, token for token, whatever goes wrong on the way."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from tests.rollout.conftest import build, prepared
from tests.rollout.remote.kit import Served, learning, plain, serving
from tests.rollout.test_local import _often_ending
from tutelage.judges import patience
from tutelage.models.loading import policy_module
from tutelage.records import Response
from tutelage.rollout.generator import Prefix, Sampling
from tutelage.rollout.local import LocalGenerator

SAMPLING = Sampling(max_new_tokens=12, temperature=0.8, samples=2, seed=5, step=3)


@pytest.fixture(scope="module")
def model(tokenizer):
    return _often_ending(prepared("llama"), tokenizer)


@pytest.fixture(scope="module")
def served(model, tokenizer):
    with serving(model, tokenizer) as found:
        yield found


@pytest.fixture(autouse=True)
def _soon(monkeypatch, served):
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.01)
    served.wrong()
    served.ids.clear()


def essence(response: Response) -> tuple:
    return (
        response.prompt,
        response.sample_index,
        response.prompt_ids,
        response.ids,
        response.finish,
        response.text,
    )


def same(found: list[Response], expected: list[Response]) -> None:
    assert [essence(one) for one in found] == [essence(one) for one in expected]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(
            torch.tensor(one.logprobs), torch.tensor(other.logprobs), atol=1e-5, rtol=0
        )


def test_a_plain_endpoint_draws_what_the_local_generator_does(served, model, tokenizer, prompts):
    expected = LocalGenerator(model, tokenizer).generate(prompts, SAMPLING)
    assert {one.finish for one in expected} == {"eos", "length"}, "both ends are compared"
    counted: list[tuple[int, int]] = []
    generator = plain([served.url], served)
    generator.progress = lambda tokens, responses: counted.append((tokens, responses))
    same(generator.generate(prompts, SAMPLING), expected)
    assert sum(tokens for tokens, _ in counted) == sum(len(one.ids) for one in expected)
    assert sum(responses for _, responses in counted) == len(expected)


def test_a_response_is_gone_on_with(served, model, tokenizer, prompts):
    local = LocalGenerator(model, tokenizer)
    prefixes = [Prefix(prompts[2], (9, 11)), Prefix(prompts[1])]
    same(
        plain([served.url], served).continue_from(prefixes, SAMPLING), local.continue_from(prefixes, SAMPLING)
    )


def test_greedy(served, model, tokenizer, prompts):
    sampling = Sampling(max_new_tokens=8, temperature=0)
    expected = LocalGenerator(model, tokenizer).generate(prompts, sampling)
    same(plain([served.url], served).generate(prompts, sampling), expected)


@pytest.mark.parametrize(
    "fault",
    [
        {"error": 3},
        {"drop": 3},
        pytest.param({"hang": 2}, marks=pytest.mark.slow),
        {"abort": 2},
        {"mislabel": 2},
    ],
)
def test_faults_are_waited_out_and_nothing_is_counted_twice(
    fault, served, model, tokenizer, prompts, tmp_path
):
    counted: list[int] = []
    generator = learning([served.url], served, tmp_path, timeout=1.5)
    generator.sync(model, 7)
    served.ids.clear()
    generator.progress = lambda tokens, responses: counted.append(responses)
    served.wrong(**fault)
    found = generator.generate(prompts, SAMPLING)
    same(found, LocalGenerator(model, tokenizer).generate(prompts, SAMPLING))
    assert {one.version for one in found} == {7}
    assert sum(counted) == len(found)
    assert all(not getattr(served.engine.faults, name) for name in fault), "the faults happened"


def test_several_servers_share_the_work_and_one_may_be_away(served, model, tokenizer, prompts, tmp_path):
    expected = LocalGenerator(model, tokenizer).generate(prompts, SAMPLING)
    with serving(model, tokenizer) as other:
        generator = learning([served.url, other.url], served, tmp_path, at_once=2)
        generator.sync(model, 1)
        other.ids.clear(), served.ids.clear()
        same(generator.generate(prompts, SAMPLING), expected)
        assert min(sum(served.ids.values()), sum(other.ids.values())) >= len(expected) // 4
    same(generator.generate(prompts, SAMPLING), expected)


def test_patience_ends_in_one_sentence(served, prompts):
    served.wrong(error=1000)
    with pytest.raises(ValueError, match=r"gives no responses \(status 500\) after .* rollouts_patience"):
        plain([served.url], served, patience=0.05).generate(prompts, SAMPLING)


def test_a_server_that_was_started_again_gets_the_weights_anew(model, tokenizer, prompts, tmp_path):
    learnt = moved(model, 0.05)
    expected = LocalGenerator(learnt, tokenizer).generate(prompts, SAMPLING)
    with serving(model, tokenizer) as first:
        port = int(first.url.rpartition(":")[2])
        generator = learning([first.url], first, tmp_path)
        generator.sync(learnt, 1)
        same(generator.generate(prompts, SAMPLING), expected)
    with serving(model, tokenizer, port=port) as second:
        same(generator.generate(prompts, SAMPLING), expected)
        assert second.counts["updates"] == 1


def moved(model, by: float):
    """Another policy: every weight a little elsewhere."""
    other = copy.deepcopy(model)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in other.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return other


def test_equal_weights_are_not_sent_again(served: Served, model, tmp_path: Path):
    learnt, logged = moved(model, 0.05), []
    generator = learning([served.url], served, tmp_path, log=logged.append)
    before = served.counts["updates"]
    for version in (0, -1, -2):
        generator.sync(learnt, version)
    assert served.counts["updates"] == before + 1
    with torch.no_grad():
        next(learnt.parameters()).add_(0.01)
    generator.sync(learnt, 1)
    assert served.counts["updates"] == before + 2
    assert len(logged) == 2 and all(0 <= one["sampling/canary"] < 1e-4 for one in logged)
    assert len([one for one in tmp_path.iterdir() if one.is_dir()]) == 1, "only the newest weights are kept"


FAULTS = ({"stale": "head"}, {"top_p": 0.9}, {"stale": "all"}, {"stale": "part"}, {"rescale": 0.7})


@pytest.mark.parametrize(
    "fault", [*FAULTS[:2], *(pytest.param(fault, marks=pytest.mark.slow) for fault in FAULTS[2:])]
)
def test_the_canary_sees_what_is_wrong(fault, model, tokenizer, tmp_path):
    with serving(model, tokenizer) as served:
        generator = learning([served.url], served, tmp_path, temperature=0.8)
        generator.sync(model, 0)
        served.wrong(**fault)
        with pytest.raises(ValueError, match="does not compute what the policy does"):
            generator.sync(moved(model, 0.05), 1)


def test_the_canary_sees_a_tied_head_that_nobody_renewed(tokenizer, tmp_path):
    """The head's copy stays, all else is new: as a server does that packs the head for its processor."""
    config = build("llama").config
    config.tie_word_embeddings = True
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tied = policy_module(LlamaForCausalLM(config).eval(), "tied")
    with serving(tied, tokenizer) as served:
        generator = learning([served.url], served, tmp_path)
        generator.sync(moved(tied, 0.05), 0)
        served.wrong(stale="head")
        with pytest.raises(ValueError, match=r"[\d.]+ nats per token off \(allowed: 0.001\)"):
            generator.sync(moved(tied, 0.1), 1)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [{"stale": "all"}, {"stale": "head"}, {"top_p": 0.9}])
def test_the_canary_sees_it_in_a_server_that_was_started_again(fault, model, tokenizer, prompts, tmp_path):
    learnt = moved(model, 0.2)
    with serving(model, tokenizer) as served:
        generator = learning([served.url], served, tmp_path)
        generator.sync(learnt, 0)
    with serving(model, tokenizer, port=int(served.url.rpartition(":")[2])) as again:
        again.wrong(**fault)
        with pytest.raises(ValueError, match="does not compute what the policy does"):
            generator.generate(prompts, SAMPLING)
