"""The reward model's losses against numbers by hand, and its batches against each comparison by itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.train.making import CPU, make_model, make_run, make_tokenizer
from tutelage.data.preflight.responses import prepare_comparisons
from tutelage.data.table import Examples
from tutelage.data.template import PairTokens
from tutelage.models.loading import load_scalar, save
from tutelage.models.policy import ScalarModule
from tutelage.records import Comparison, Prompt
from tutelage.settings.base import build
from tutelage.settings.reward import RewardSettings
from tutelage.train.compared import Compared, Differences, refuse_unranked, shares_responses
from tutelage.train.fit import accumulate, fit
from tutelage.train.reward import Member, RewardModelling
from tutelage.train.ties import Ties

WORDS = ("cat", "dog", "mat", "red")
SCORES = (0.3, -1.2, 0.8, 0.1)  # of the words


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    tokenizer = make_tokenizer()
    return save(make_model(tokenizer), tokenizer, folder / "model")


def prepared(rows: Sequence[Comparison], groups: Sequence[str] = ()) -> Examples[PairTokens]:
    return prepare_comparisons(
        make_tokenizer(), rows, max_length=64, groups=groups, max_dropped_share=None
    ).examples


def ranking(prompt: str, ranks: Sequence[int], words: Sequence[str] = WORDS) -> list[Comparison]:
    """Every two of the words, the lower rank better; equal ranks are a tie."""
    rows = []
    for i, j in itertools.combinations(range(len(ranks)), 2):
        better, worse = (i, j) if ranks[i] <= ranks[j] else (j, i)
        share = 0.5 if ranks[i] == ranks[j] else 1.0
        rows.append(Comparison(Prompt(prompt), words[better], words[worse], share))
    return rows


def member(start: Path, heads: int = 1, seed: int = 0, name: str = "") -> Member:
    return Member(name, load_scalar(start, heads=heads, seed=seed), seed)


def said(scores: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every reward model gives these scores."""
    monkeypatch.setattr(ScalarModule, "forward", lambda self, batch, at: scores)


def algorithm(
    rows: Sequence[Comparison], start: Path, by: str = "pairs", ties: Ties | None = None, **given: object
) -> RewardModelling:
    settings = build(RewardSettings, {"out": "x", "batch_size": 1, **given})
    one = Member("", load_scalar(start), 0, ties)
    return RewardModelling([one], Compared(prepared(rows), by), settings)  # type: ignore[arg-type]


def first_loss(found: RewardModelling, name: str) -> float:
    [batch] = next(found.batches(0))
    term = found.loss(batch).terms[name]
    assert term.per == "units" and batch.units()["units"] == len(batch)
    return term.sum.item() / len(batch)


# ---- losses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coef", [0.0, 1.0, 3.0])
def test_the_margin_is_subtracted_inside_the_sigmoid(
    start: Path, monkeypatch: pytest.MonkeyPatch, coef: float
) -> None:
    """-log sigmoid(d - coef * m), both ways round for a soft label: 1.0810 and the like (Llama 2, eq. 2)."""
    scores = ((2.0, 0.5), (0.25, 0.25), (-1.0, 1.0))
    said(torch.tensor(scores).flatten(), monkeypatch)
    shares, margins = (1.0, 1.0, 0.75), (1.0, 1 / 3, 0.0)
    rows = [
        Comparison(Prompt(f"{n} + 1 ="), "cat", "dog", p, m)
        for n, (p, m) in enumerate(zip(shares, margins, strict=True))
    ]
    found = algorithm(rows, start, margin_coef=coef, batch_size=3)
    [batch] = next(found.batches(0))
    order = [batch.rows[i] for i in range(0, 6, 2)]

    def nll(x: float) -> float:
        return math.log1p(math.exp(-x))

    expected = sum(
        shares[row] * nll(c - r - coef * margins[row]) + (1 - shares[row]) * nll(r - c - coef * margins[row])
        for (c, r), row in zip(scores, order, strict=True)
    )
    assert found.loss(batch).terms["bradley_terry"].sum.item() == pytest.approx(expected, rel=1e-6)


def test_the_constants_of_the_papers(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal scores: ln 2, 1.3133 with a margin of 1, 3.0486 with 3; ln K! for a ranking of K; a tie in three by Davidson."""
    said(torch.zeros(4), monkeypatch)
    pair = [Comparison(Prompt("1 +"), "cat", "dog", 1.0, 1.0)]
    monkeypatch.setattr(ScalarModule, "forward", lambda self, batch, at: torch.zeros(len(batch.lengths)))
    for coef, expected in ((0.0, 0.693147), (1.0, 1.313262), (3.0, 3.048587)):
        found = first_loss(algorithm(pair, start, margin_coef=coef), "bradley_terry")
        assert found == pytest.approx(expected, abs=1e-6)
    whole = algorithm(ranking("1 +", (0, 1, 2, 3)), start, "prompts", loss="plackett-luce")
    assert first_loss(whole, "plackett_luce") == pytest.approx(math.log(24), abs=1e-6)
    by_pairs = algorithm(ranking("1 +", (0, 1, 2, 3)), start, "prompts")
    assert first_loss(by_pairs, "bradley_terry") == pytest.approx(math.log(2), abs=1e-6)
    tie = [Comparison(Prompt("1 +"), "cat", "dog", 0.5)]
    for model, expected in (("davidson", 1 / 3), ("rao-kupper", math.tanh(0.5))):
        found = algorithm(tie, start, ties=Ties(model), loss=model)  # type: ignore[arg-type]
        assert math.exp(-first_loss(found, model.replace("-", "_"))) == pytest.approx(expected, rel=1e-6)


def test_a_whole_ranking_has_the_likelihood_that_choix_gives(
    start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """choix 0.4.1 (Top1Fcts without penalty) for the ranking 2, 0, 3, 1 of four strengths; rows in any order."""
    rows = ranking("1 +", (1, 3, 0, 2))
    for order in (rows, rows[::-1]):
        found = algorithm(order, start, "prompts", loss="plackett-luce")
        [batch] = next(found.batches(0))
        tokenizer = make_tokenizer()
        texts = [tokenizer.decode(ids) for ids in batch.ids.split(batch.lengths)]
        scores = [next(s for w, s in zip(WORDS, SCORES, strict=True) if w in text) for text in texts]
        said(torch.tensor(scores), monkeypatch)
        assert found.loss(batch).terms["plackett_luce"].sum.item() == pytest.approx(1.760654277, abs=1e-6)


# ---- batches -----------------------------------------------------------------------------------------------------------


def test_all_pairs_of_a_prompt_are_one_unit_in_which_each_response_stands_once(start: Path) -> None:
    rows = [*ranking("1 +", (0, 1, 2, 3)), *ranking("2 +", (1, 0, 2), WORDS[:3])]
    mixed = [rows[i] for i in (0, 6, 1, 7, 2, 3, 8, 4, 5)]  # as they may stand in a file
    examples = prepared(mixed)
    assert shares_responses(examples) and not shares_responses(prepared(rows[:1]))
    found = Compared(examples, "prompts")
    assert sorted(map(len, found.units)) == [3, 6]
    batch = found.batch([0, 1])
    assert sorted(batch.unit_sizes) == [3, 4] and batch.units()["units"] == 2
    assert batch.per_unit["share"].sum(1).tolist() == pytest.approx([1, 1])


def test_together_they_have_the_loss_and_the_gradient_of_each_pair_by_itself(start: Path) -> None:
    """The mean over prompts of the mean over their pairs, for any micro-batch, with padding to the largest prompt."""
    rows = [*ranking("1 +", (0, 1, 2, 3)), *ranking("2 +", (1, 0, 1), WORDS[:3])]
    examples = prepared(rows)
    model = load_scalar(start)
    expected = torch.zeros(())
    for units in Compared(examples, "prompts").units:
        for row in units:
            batch = Compared(examples, "pairs").batch([int(row)])
            d = Differences.of(model(batch, at="ends"), batch).margins
            p = batch.per_unit["p_chosen"]
            nll = -p * torch.sigmoid(d).log() - (1 - p) * torch.sigmoid(-d).log()
            expected = expected + nll.sum() / len(units) / 2
    expected.backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    for tokens in (1, 20, 10_000):
        found = algorithm(rows, start, "prompts", batch_size=2, center_coef=0)
        trained = found.trained["reward_model"]
        totals = accumulate(found, next(found.batches(0)), tokens, CPU)
        assert totals.means()["loss"] == pytest.approx(expected.item(), rel=1e-5)
        for name, p in trained.named_parameters():
            assert p.grad is not None
            torch.testing.assert_close(p.grad, wanted[name], atol=1e-6, rtol=1e-4)


def test_a_weight_counts_as_often_as_the_row_would_stand_there(start: Path) -> None:
    """Weights 3 and 1 give the gradient of three rows and one; only their ratio matters."""

    def gradient(rows: Sequence[Comparison], **given: object) -> Tensor:
        found = algorithm(rows, start, batch_size=len(rows), center_coef=0.1, **given)
        accumulate(found, next(found.batches(0)), 10_000, CPU)
        grad = found.trained["reward_model"].head.weight.grad  # type: ignore[union-attr]
        assert grad is not None
        return grad

    one, other = (Comparison(Prompt(p), "cat", "dog") for p in ("1 +", "2 + 2"))
    often = gradient([one, one, one, other])
    for scale in (1.0, 10.0):
        heavy = [
            Comparison(one.prompt, "cat", "dog", weight=3 * scale),
            Comparison(other.prompt, "cat", "dog", weight=scale),
        ]
        torch.testing.assert_close(gradient(heavy, weighted=True), often, atol=1e-6, rtol=1e-5)
        assert not torch.allclose(gradient(heavy), often, atol=1e-4)


def test_every_group_has_its_own_head(start: Path) -> None:
    """A comparison of a group moves its head alone."""
    rows = [Comparison(Prompt("1 +"), "cat", "dog", group="b")]
    settings = build(RewardSettings, {"out": "x", "batch_size": 1, "groups": {"a": [], "b": []}})
    one = member(start, heads=2)
    found = RewardModelling([one], Compared(prepared(rows, ["a", "b"]), "pairs"), settings)
    accumulate(found, next(found.batches(0)), 1000, CPU)
    grad = one.model.head.weight.grad
    assert grad is not None and grad[0].abs().max() == 0 and grad[1].abs().max() > 0


def test_rows_of_no_group_are_dropped_and_counted() -> None:
    rows = [Comparison(Prompt("1 +"), "cat", "dog", group=g) for g in ("a", "", "c")]
    report = prepare_comparisons(
        make_tokenizer(), rows, max_length=64, groups=["a", "b"], max_dropped_share=None
    ).report
    assert report.kept == 1
    assert sorted(report.dropped) == [
        "of no group, where groups has a, b",
        "of the group 'c', where groups has a, b",
    ]


def test_rankings_that_are_none_are_refused_by_name() -> None:
    missing = ranking("1 +", (0, 1, 2), WORDS[:3])[:2]
    circle = [Comparison(Prompt("2 +"), a, b) for a, b in (("cat", "dog"), ("dog", "mat"), ("mat", "cat"))]
    for rows in (missing, circle, [Comparison(Prompt("3 +"), "cat", "dog", 0.7)]):
        with pytest.raises(ValueError, match="1 of 2 prompts"):
            refuse_unranked(Compared(prepared([*rows, *ranking("9 +", (0, 1, 1), WORDS[:3])]), "prompts"))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"loss": "davidson", "margin_coef": 1}, "margin_coef=1 is for loss=bradley-terry"),
        ({"loss": "rao-kupper", "ties": "drop"}, "learns from ties"),
        ({"loss": "plackett-luce", "batch_by": "pairs"}, "takes whole rankings"),
        ({"groups": {"a": ["x"]}}, "groups has one group"),
        ({"groups": {"a": ["x"], "b": ["y"]}, "policy_data": "own.jsonl"}, "policy_data is measured by one"),
        ({"groups": {"a": ["x"], "b": ["x"]}}, "x in 2 groups"),
    ],
)
def test_settings_that_contradict_each_other_are_one_sentence(
    given: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        build(RewardSettings, {"out": "x", **given})


# ---- ensembles, ties learnt --------------------------------------------------------------------------------------------


def test_members_learn_as_each_would_alone(start: Path, tmp_path: Path) -> None:
    """To the bit: none learns anything from another, also in clipping."""
    rows = [Comparison(Prompt(f"{n} +"), "cat", "dog mat", 1.0) for n in range(5)]
    examples = prepared(rows)
    settings = build(
        RewardSettings,
        {
            "out": tmp_path / "all",
            "batch_size": 2,
            "learning_rate": 0.01,
            "max_grad_norm": 0.1,
            "max_steps": 3,
            "tensorboard": False,
        },
    )

    def trained(folder: Path, *members: Member) -> RewardModelling:
        found = RewardModelling(members, Compared(examples, "pairs"), settings)
        run = make_run(folder, settings, "reward")
        fit(found, settings, CPU, run, steps=3, tokenizer=make_tokenizer())
        return found

    pair = trained(
        tmp_path / "all", member(start, seed=0, name="member-1"), member(start, seed=7, name="member-2")
    )
    for seed, name in ((0, "member-1"), (7, "member-2")):
        alone = trained(tmp_path / name, member(start, seed=seed)).trained["reward_model"].state_dict()
        for key, value in pair.trained[f"reward_model_{name}"].state_dict().items():
            assert torch.equal(value, alone[key]), key


@pytest.mark.slow
def test_the_strength_of_ties_is_learnt_whatever_the_rate_of_the_weights(start: Path, tmp_path: Path) -> None:
    """Four ties in five between equals: nu of 8, P(tie) = nu / (2 + nu) = 0.8."""
    rows = [
        Comparison(Prompt(f"{n} +"), *(("cat", "dog")[:: 1 if n % 2 else -1]), 0.5 if n % 5 else 1.0)
        for n in range(20)
    ]
    settings = build(
        RewardSettings,
        {
            "out": tmp_path / "run",
            "loss": "davidson",
            "batch_size": 20,
            "learning_rate": 1e-6,
            "schedule": "cosine",
            "max_steps": 300,
            "tensorboard": False,
        },
    )
    ties = Ties("davidson")
    one = Member("", load_scalar(start), 0, ties)
    with torch.no_grad():
        one.model.head.weight.zero_()
    found = RewardModelling([one], Compared(prepared(rows), "pairs"), settings)
    run = make_run(tmp_path / "run", settings, "reward")
    fit(found, settings, CPU, run, steps=300, tokenizer=make_tokenizer())
    assert ties.strength.item() == pytest.approx(8, rel=0.02)
