"""`contrast`: demonstrations against own responses as pairs, in a file and in the store; SPIN on them reaches what was shown."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch.nn.functional import logsigmoid

from tests.oracle import SEQUENCES, TabularPolicy, divergence
from tests.train.making import CPU, make_tokenizer
from tests.train.test_irl import checkpoint as checkpoint
from tests.train.test_oracle import WORLD, Table, tokens
from tutelage.data.reading.formats import read_comparisons
from tutelage.data.template import PairTokens
from tutelage.feedback.training.source import comparisons_from
from tutelage.launch import launch
from tutelage.models.forward import Traits
from tutelage.models.policy import PolicyModule
from tutelage.records import Prompt, Response
from tutelage.resume import read_metrics
from tutelage.runs import Run
from tutelage.settings.base import build, load
from tutelage.settings.irl import ContrastSettings
from tutelage.settings.preference import DPOSettings
from tutelage.store.sql import is_storable
from tutelage.train.contrast import paired
from tutelage.train.fit import fit
from tutelage.train.preference import Preference
from tutelage.train.reference import reference_logprobs

# ---- which response a demonstration is set against ---------------------------------------------------------------------


def shown(prompt: str, tokens: int) -> Response:
    return Response(Prompt(prompt), "shown", (1,), (5,) * tokens, (), "eos")


def test_the_next_or_the_nearest_in_length() -> None:
    own = {Prompt("a").id: [{"tokens": n, "response": str(n)} for n in (9, 4, 6)]}
    demonstrations = [shown("a", 5), shown("a", 8), shown("a", 1), shown("a", 2)]
    assert [row["tokens"] for _, row in paired(demonstrations, own, "none")] == [9, 4, 6, 9]
    assert [row["tokens"] for _, row in paired(demonstrations, own, "length")] == [4, 9, 4, 4]


# ---- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def given(checkpoint, tmp_path) -> dict[str, Any]:
    rows = [{"prompt": f"question {i}", "response": "a small town by the sea"} for i in range(30)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "out": str(tmp_path / "run"), "model": str(checkpoint), "data": str(tmp_path / "data.jsonl"),
        "samples": 4, "max_new_tokens": 24, "store": str(tmp_path / "store.sqlite"),
        "device": "cpu", "precision": "fp32", "kernels": "off",
    }  # fmt: skip


def contrast(given: dict[str, Any], **changes: Any) -> str:
    said = io.StringIO()
    launch("contrast", build(ContrastSettings, {**given, **changes}), Console(file=said, width=200))
    return " ".join(said.getvalue().split())


def test_pairs_are_read_by_reward_and_dpo(given, tmp_path) -> None:
    said = contrast(given)
    path = Path(given["out"]) / "preference.jsonl"
    found = list(read_comparisons(str(path)))
    drawn = [json.loads(line) for line in (Path(given["out"]) / "samples.jsonl").read_text().splitlines()]
    assert len(found) == 30 and len(drawn) == 120
    first = {row["prompt"]: row for row in reversed(drawn)}
    for pair in found:
        row = first[pair.prompt.content]
        assert (pair.chosen, pair.rejected) == ("a small town by the sea", row["response"])
        assert (pair.p_chosen, pair.rejected_finish) == (1.0, row["finish"])
    assert f"data={path}" in said and not Path(given["store"]).exists()
    [figures] = read_metrics(Path(given["out"]))
    assert figures["pairs"] == 30 and figures["same_share"] == 0
    assert figures["rejected_length"] == pytest.approx(
        sum(first[p.prompt.content]["tokens"] for p in found) / 30
    )
    near = {**given, "out": str(tmp_path / "near")}
    contrast(near, match="length")
    [nearer] = read_metrics(Path(near["out"]))
    gap = abs(figures["chosen_length"] - figures["rejected_length"])
    assert abs(nearer["chosen_length"] - nearer["rejected_length"]) < gap


def test_in_the_store_they_are_votes_and_stand_there_once(given, tmp_path) -> None:
    said = contrast(given, project="round-1")
    contrast({**given, "out": str(tmp_path / "again")}, project="round-1")
    written = list(read_comparisons(str(tmp_path / "run" / "preference.jsonl")))
    kept = [row for row in written if is_storable(row.rejected)]
    assert (
        len(kept) < 30 and f"{30 - len(kept)} of the pairs cannot be stored" in said
    )  # the model writes NUL now and then
    for annotators in ([], ["rule"]):
        found = comparisons_from("store:round-1", given["store"], "auto", "keep", annotators)
        rows = [*found.train, *found.held_out]
        assert {row.p_chosen for row in rows} == {1.0} and len(rows) == len(kept)
        assert {(row.prompt.id, row.chosen, row.rejected) for row in rows} == {
            (row.prompt.id, row.chosen, row.rejected) for row in kept
        }


def test_where_nothing_is_left_to_learn_it_says_so(given, monkeypatch, tmp_path) -> None:
    from tutelage.rollout.local import LocalGenerator

    def same(self: Any, prompts: list[Prompt], sampling: Any) -> list[Response]:
        text = "a small town by the sea"
        return [Response(prompt, text, (1,), (5,), (0.0,), "eos") for prompt in prompts for _ in range(4)]

    monkeypatch.setattr(LocalGenerator, "generate", same)
    with pytest.raises(ValueError, match="all 30 responses are the demonstrations themselves"):
        contrast(given)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"match": "length"},
            "match=length chooses, and with samples=1 there is one response: set samples=4",
        ),
        ({"samples": 4, "temperature": 0.0}, "temperature=0 draws the same response every time"),
    ],
)
def test_settings_that_say_nothing_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build(ContrastSettings, {"data": "d.jsonl", **changes})


# ---- SPIN, by the population of pairs ----------------------------------------------------------------------------------


def spin_round(folder: Path, start: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, list[float]]:
    """One round with lambda 1: theta [7, 3] after it, and the loss of the population at its start and its end.

    The pair (i, j) is (demonstration, own response) with probability target(i) start(j), and the other way round with target(j)
    start(i): what is learnt from all pairs alike, for the optimum gives every pair its own probability.
    """
    before = TabularPolicy(start).sequence_logprobs().detach()
    pairs, weights = [], []
    for i, first in enumerate(SEQUENCES):
        for j in range(i + 1, len(SEQUENCES)):
            forward, back = target[i] + before[j], target[j] + before[i]
            pairs.append(
                PairTokens(tokens(first), tokens(SEQUENCES[j]), float(torch.sigmoid(forward - back)), 0.0)
            )
            weights.append((forward.exp(), back.exp(), i, j))
    settings = load(DPOSettings, [
        "preset=spin", "beta=1", "learning_rate=0.05", "warmup=0", f"batch_size={len(pairs)}", "max_grad_norm=0",
        "tensorboard=false", "save_every=10000", "micro_batch_tokens=100000", f"out={folder}",
    ])  # fmt: skip
    policy = PolicyModule(Table(start.T.float()), Traits(flat=True))
    run = Run.open(folder, "dpo", settings)
    both = lambda row: (pairs[row].chosen, pairs[row].rejected)  # noqa: E731
    ref = reference_logprobs(policy, both, range(len(pairs)), 100_000, CPU, run)
    fit(Preference(policy, pairs, settings, ref), settings, CPU, run, steps=200, tokenizer=make_tokenizer())
    run.close()
    after = policy.host.score.weight.detach().T.double()
    ratio = TabularPolicy(after).sequence_logprobs().detach() - before

    def loss(h: torch.Tensor) -> float:
        same = float(
            (target + before).exp().sum() * torch.log(torch.tensor(2.0))
        )  # i = j: ln 2 whatever is learnt
        return same - sum(
            float(f * logsigmoid(h[i] - h[j]) + b * logsigmoid(h[j] - h[i])) for f, b, i, j in weights
        )

    return after, [loss(torch.zeros_like(ratio)), loss(ratio)]


@pytest.mark.slow
def test_spin_is_there_in_one_round_and_stays(tmp_path: Path) -> None:
    """With lambda 1 the optimum of the first round is the distribution of what is shown (here the oracle's best policy). Then
    nobody can tell them apart: the loss is ln 2 before and after a round."""
    target, theta = WORLD.best_logprobs, WORLD.theta_ref
    assert float(divergence(target, WORLD.ref_logprobs)) > 0.5
    losses = []
    for number in range(2):
        theta, found = spin_round(tmp_path / str(number), theta, target)
        losses.append(found)
        reached = TabularPolicy(theta).sequence_logprobs().detach()
        assert float(divergence(target, reached)) < 1e-3
    assert losses[0] == [
        pytest.approx(0.6931, abs=1e-4),
        pytest.approx(0.4322, abs=1e-3),
    ]  # 0.4322: by enumeration
    for later in losses[1:]:
        assert later == [pytest.approx(0.6931, abs=2e-3)] * 2
