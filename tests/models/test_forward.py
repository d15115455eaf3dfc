"""Log-probs, values and scores against transformers' own full forwards."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch
import transformers as hf
from torch import Tensor

from tests.models.zoo import CONFIGS, batch_of, build, logits_alone, sequences, twin
from tutelage.data.batch import TokenBatch
from tutelage.models import layout
from tutelage.models.loading import policy_module, scalar_module
from tutelage.models.policy import Hosted, PolicyModule
from tutelage.ops.logprobs import token_logprobs
from tutelage.ops.shapes import round_up


def masks(parts: list[Tensor]) -> list[Tensor]:
    """The second half of every sequence is trained on."""
    return [torch.arange(len(p)) >= len(p) // 2 for p in parts]


def padded_twin(module: Hosted) -> Hosted:
    """The same weights, run right-padded through transformers' eager attention."""
    other = twin(module.host)
    other.set_attn_implementation("eager")
    return type(module)(other, replace(module.traits, flat=False))


def scalar(name: str, seed: int = 0) -> hf.PreTrainedModel:
    config = CONFIGS[name]()
    config.num_labels = 1
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = hf.AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
    return model.eval()


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_logprobs_equal_those_of_full_logits(name: str) -> None:
    """Every architecture, flat or padded, scaled logits included, at a temperature; entropy too."""
    model, parts = build(name), sequences()
    batch = batch_of(parts, masks(parts))
    wanted, entropy = token_logprobs(
        logits_alone(model, parts), batch.ids, batch.lengths, batch.loss_mask, temperature=0.7
    )
    found = policy_module(twin(model), name)(batch, temperature=0.7, entropy=True)
    assert (found.logprobs - wanted).abs().max() < 2e-5
    assert found.entropy is not None and (found.entropy - entropy).abs().max() < 2e-5
    assert found.logprobs.dtype == torch.float32
    assert not found.logprobs[~batch.loss_mask].any()


def test_entropy_only_when_asked_and_nothing_at_a_first_token() -> None:
    model, parts = policy_module(build("llama"), "llama"), sequences()
    found = model(batch_of(parts))
    assert found.entropy is None
    starts = [0, 7, 10, 22, 23]
    assert not found.logprobs[starts].any()
    assert (found.logprobs != 0).sum() == 28 - len(starts)


@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral"])
def test_flat_and_padded_layouts_agree(name: str) -> None:
    model = policy_module(build(name), name)
    batch = batch_of(sequences())
    flat, padded = model.hidden_states(batch), padded_twin(model).hidden_states(batch)
    assert (flat - padded).abs().max() < 1e-5 * flat.abs().max()


def test_gradients_of_both_layouts_agree_in_double_precision() -> None:
    model = policy_module(build("gpt2").double(), "gpt2")
    other = padded_twin(model)
    parts = sequences()
    batch = batch_of(parts, masks(parts))
    for m in (model, other):
        m(batch).logprobs.sum().backward()
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert (mine.grad - theirs.grad).abs().max() < 1e-10 * max(1.0, float(theirs.grad.abs().max()))


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "gemma2", "mistral"])
def test_leaving_out_what_nobody_reads_changes_no_gradient(name: str) -> None:
    """The last layer's feed-forward part runs for few tokens of a batch that is trained on in few places."""
    model = policy_module(build(name).double(), name)
    assert model.traits.trims
    whole = PolicyModule(twin(model.host), replace(model.traits, trims=False))
    parts = sequences()
    batch = batch_of(parts, masks(parts))
    found, wanted = (m(batch).logprobs for m in (model, whole))
    assert torch.allclose(found, wanted, atol=1e-12)
    for logprobs in (found, wanted):
        logprobs.sum().backward()
    for mine, theirs in zip(model.parameters(), whole.parameters(), strict=True):
        assert torch.allclose(mine.grad, theirs.grad, atol=1e-10)


def related() -> tuple[list[Tensor], tuple[int, ...]]:
    """Sequences that begin like the one before them, and how many tokens they share with it: a chain, a pair, a copy."""
    a, b = sequences((14, 9), seed=4)
    parts = [a, torch.cat([a[:8], b[:3]]), torch.cat([a[:5], b[:4]]), b, torch.cat([b[:6], a[:7]]), b[:6]]
    return parts, (0, 8, 5, 0, 6, 6)


@pytest.mark.parametrize("read", ["everything", "responses"])
@pytest.mark.parametrize("name", ["qwen2", "mistral", "gemma2", "gpt2"])
def test_shared_beginnings_computed_once_change_nothing(name: str, read: str) -> None:
    """States and gradients, with grouped heads, windows, soft-capping and learned positions.

    All in float64, but the RMS norms of transformers compute in float32 whatever they are given.
    """
    exact = 1e-10 if name == "gpt2" else 1e-4
    parts, shared = related()
    mask = [torch.arange(len(p)) >= (1 if read == "everything" else 5) for p in parts]
    batch = batch_of(parts, mask)
    assert batch.shared_prefixes == shared
    alone = batch_of(parts, mask)
    alone.__dict__["shared_prefixes"] = None
    model = policy_module(build(name).double(), name)
    other = copy.deepcopy(model)
    seen: list[int] = []
    model.host.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    found, wanted = model.hidden_states(batch), other.hidden_states(alone)
    assert seen == [round_up(sum(map(len, parts)) - sum(shared))]
    assert torch.allclose(found, wanted, atol=exact)
    for m, b in ((model, batch), (other, alone)):
        (m(b).logprobs * torch.arange(1.0, len(b.ids) + 1).cos()).sum().backward()
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.allclose(mine.grad, theirs.grad, atol=exact)


@pytest.mark.parametrize("widths", [2, 32])
@pytest.mark.parametrize("name", ["llama", "qwen2", "mistral", "gemma2"])
def test_no_gradient_depends_on_what_responses_to_a_prompt_share(
    name: str, widths: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three prompts, four responses of several lengths to each, in any order, cut in several ways: as if each were alone.  Two
    of them are equal, and one is the beginning of another.  With narrow buckets the copies' queries are left out.

    In float64, but the RMS norms of transformers compute in float32 whatever they are given.
    """
    monkeypatch.setattr(layout, "WIDTHS", widths)
    monkeypatch.setattr(layout, "BUCKET_COST", 0.0 if widths == 2 else layout.BUCKET_COST)
    prompts, answers = sequences((9, 12, 5), seed=5), sequences((4, 4, 2, 7), seed=6)
    answers[1] = answers[0]
    order = [5, 0, 10, 7, 3, 8, 1, 11, 2, 6, 4, 9]
    parts = [torch.cat([prompts[i % 3], answers[i // 3]]) for i in order]
    mask = [torch.arange(len(part)) >= len(prompts[i % 3]) for part, i in zip(parts, order, strict=True)]
    batch = replace(batch_of(parts, mask), rows=tuple(7 + i % 3 for i in order))
    batch = batch.with_fields(weight=torch.arange(1.0, len(batch.ids) + 1).cos())
    model = policy_module(build(name).double(), name)

    def gradients(pieces: Iterable[TokenBatch]) -> list[Tensor]:
        model.zero_grad()
        for piece in pieces:
            (model(piece).logprobs * piece.per_token["weight"]).sum().backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    wanted = gradients(batch.take([unit]) for unit in range(12))
    for most in (1000, 60, 30, 1):
        pieces = list(batch.split(most))
        assert sum(len(piece) for piece in pieces) == 12
        assert most == 1 or any(piece.shared_prefixes for piece in pieces)
        for mine, theirs in zip(gradients(pieces), wanted, strict=True):
            assert torch.allclose(mine, theirs, atol=1e-4)


def test_the_feed_forward_part_sees_only_what_is_read() -> None:
    model, parts = scalar_module(scalar("qwen2"), "qwen2"), sequences()
    seen: list[int] = []
    model.host.model.layers[-1].mlp.act_fn.register_forward_hook(lambda *call: seen.append(call[2].shape[1]))
    model(batch_of(parts), at="ends")
    assert seen == [len(parts)]
    model.hidden_states(batch_of(parts))
    assert seen == [len(parts), round_up(sum(map(len, parts)))]


@pytest.mark.parametrize("amount", [0, 1, 5])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_amount_and_side_change_nothing(side: str, amount: int) -> None:
    """GPT-2 learns absolute positions: a padded batch of transformers with mask and positions, against ours."""
    model, parts = build("gpt2"), sequences()
    width = max(map(len, parts)) + amount
    rows, mask = torch.full((len(parts), width), 99), torch.zeros(len(parts), width, dtype=torch.long)
    for row, part in enumerate(parts):
        place = slice(width - len(part), width) if side == "left" else slice(0, len(part))
        rows[row, place], mask[row, place] = part, 1
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    theirs = model.transformer(input_ids=rows, attention_mask=mask, position_ids=positions).last_hidden_state[
        mask.bool()
    ]
    ours = policy_module(twin(model), "gpt2").hidden_states(batch_of(parts))
    assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "gptj", "qwen3"])
def test_scores_equal_those_of_plain_sequence_classification(name: str) -> None:
    model, parts = scalar(name), sequences()
    wanted = torch.cat([model(input_ids=part[None]).logits[:, 0] for part in parts])
    ours = scalar_module(twin(model), name)
    found = ours(batch_of(parts), at="ends")
    assert (found - wanted).abs().max() < 1e-5
    alone = torch.cat([ours(batch_of([part]), at="ends") for part in parts])
    shuffled = ours(batch_of([parts[i] for i in (3, 0, 4, 2, 1)]), at="ends")
    assert (found - alone).abs().max() < 1e-5
    assert (found[[3, 0, 4, 2, 1]] - shuffled).abs().max() < 1e-5


def test_the_last_token_counts_even_when_it_is_the_padding_token() -> None:
    model, parts = scalar_module(scalar("llama"), "llama"), sequences((6, 4))
    parts[0][-1] = model.config.pad_token_id
    scores = model(batch_of(parts), at="ends")
    head = model.head
    assert torch.allclose(scores[0], head(model.hidden_states(batch_of(parts))[5])[0], atol=1e-6)


def test_a_value_is_read_at_the_state_before_its_token() -> None:
    """Changing the last token changes no value; changing the one before changes the last value only."""
    model, parts = scalar_module(scalar("llama"), "llama"), sequences((8, 5))
    mask = [torch.arange(8) >= 3, torch.arange(5) >= 2]
    values = model(batch_of(parts, mask), at="tokens")
    head, hidden = model.head, model.hidden_states(batch_of(parts, mask))
    assert torch.allclose(values[3:8], head(hidden[2:7])[:, 0], atol=1e-6)
    assert not values[[0, 1, 2, 8, 9]].any()
    for changed, differs in ((7, []), (6, [7])):
        other = parts[0].clone()
        other[changed] = (other[changed] + 1) % 100
        moved = (model(batch_of([other, parts[1]], mask), at="tokens") - values).abs() > 1e-6
        assert moved.nonzero().flatten().tolist() == differs


def test_scores_are_float32_under_autocast() -> None:
    model = scalar_module(scalar("llama"), "llama")
    with torch.autocast("cpu", torch.bfloat16):
        assert model(batch_of(sequences()), at="ends").dtype == torch.float32


def test_policy_and_reference_start_equal_even_with_dropout_in_the_config(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """GPT-2 as shipped has dropout 0.1: loaded twice, in train mode, the log-ratio is exactly 0."""
    from tutelage.models.loading import load_policy

    build("gpt2").save_pretrained(tmp_path)
    policy, ref = load_policy(tmp_path).train(), load_policy(tmp_path).eval()
    parts = sequences()
    batch = batch_of(parts, masks(parts))
    assert torch.equal(policy(batch).logprobs, ref(batch).logprobs)


def test_what_fills_a_row_fits_the_model_too() -> None:
    """A long row of short sequences through learned positions: no filling is longer than what is there."""
    model = policy_module(build("gpt2"), "gpt2")
    parts = [(torch.arange(2 + n % 3) + n) % 100 for n in range(1500)]  # neighbours share nothing
    batch = batch_of(parts)
    assert batch.shared_prefixes is None
    assert round_up(len(batch.ids)) - len(batch.ids) > 64  # more than the model has positions
    found = model.hidden_states(batch)
    assert torch.allclose(found[:2], model.hidden_states(batch_of(parts[:1])), atol=1e-5)
