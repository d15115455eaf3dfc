"""Heads for groups: `reward groups=each`, `adapt`, inner steps, and what a new group gets of them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from rich.console import Console
from safetensors.torch import load_file

from tests.train.making import CPU, collate_rows, make_model, make_rows, make_tokenizer
from tutelage.data.reading.formats import read_comparisons
from tutelage.evals import rows
from tutelage.judges.build import build_judge
from tutelage.launch import launch
from tutelage.models.loading import load_scalar, name_heads, save, set_pooling
from tutelage.records import Prompt, Response
from tutelage.settings.adapt import AdaptSettings, GroupsSettings
from tutelage.settings.base import build
from tutelage.settings.reward import RewardSettings
from tutelage.statistics.few_labels import by_steps, gaussian_of, most_probable
from tutelage.train.anil import inner
from tutelage.train.heads import Body

WORDS = ("cat", "dog", "mat", "red")
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = make_tokenizer()
    folder = tmp_path_factory.mktemp("base")
    save(make_model(tokenizer), tokenizer, folder / "model")
    return folder


@pytest.fixture(scope="module")
def heads(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model with three heads, untrained."""
    folder = tmp_path_factory.mktemp("heads")
    module = load_scalar(base / "model", heads=3, seed=1)
    name_heads(module, ["a", "b", "c"])
    save(module, make_tokenizer(), folder / "model")
    return folder


def comparisons(path: Path, n: int, group: str = "", better: Callable[[str], int] = WORDS.index) -> Path:
    """Pairs of words, the one with the higher rank preferred; added to the file."""
    draw = random.Random(len(group) + n)
    with path.open("a") as file:
        for i in range(n):
            worse, best = sorted(draw.sample(WORDS, 2), key=better)
            row = {"prompt": f"{i} +", "chosen": f" {best}", "rejected": f" {worse}"}
            file.write(json.dumps({**row, **({"group": group} if group else {})}) + "\n")
    return path


def against(word: str) -> int:
    return -WORDS.index(word)


def adapt(model: Path, data: Path, out: Path, **given: Any) -> dict[tuple[str, str], rows.Row]:
    settings = {"model": str(model), "data": str(data), "out": out, "precision": "fp32", **given}
    launch("adapt", build(AdaptSettings, settings), QUIET)
    return {(row.model, row.metric): row for row in rows.read(out / "results.json")}


def train(base: Path, data: Path, out: Path, **given: Any) -> Path:
    settings = {
        "model": str(base),
        "data": str(data),
        "out": out,
        "learning_rate": 5e-3,
        "batch_size": 16,
        "batch_by": "pairs",
        "epochs": 6,
        "tensorboard": False,
        "precision": "fp32",
        **given,
    }
    launch("reward", build(RewardSettings, settings), QUIET)
    return out


# ---- the body ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_the_head_makes_the_score_of_the_features(base: Path, pooling: Any) -> None:
    module = load_scalar(base / "model", heads=3, seed=2)
    set_pooling(module, pooling)
    batch = collate_rows(make_rows(5), range(5))
    scores = module(batch, at="ends")
    torch.testing.assert_close(module.features(batch) @ module.head.weight.T, scores, atol=1e-5, rtol=1e-5)


# ---- inner steps -------------------------------------------------------------------------------------------------------


def tasks() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    support = (torch.arange(6) < torch.tensor([[2], [4]])).double()
    p = torch.tensor([[1, 1, 0.5, 1, 0, 1], [1, 0.7, 1, 1, 1, 1]], dtype=torch.float64)
    return {
        "start": normal(3),
        "differences": normal(2, 6, 3),
        "p": p,
        "support": support,
        "rate": torch.tensor(0.7, dtype=torch.float64),
    }


def test_inner_steps_descend_the_support_by_autograd() -> None:
    """The written gradient is that of the mean loss of the support, of every task by itself."""
    given = tasks()
    found = inner(**given, steps=3)
    for task in range(2):
        there = given["support"][task] > 0
        x, p = given["differences"][task][there], given["p"][task][there]
        w = given["start"].clone().requires_grad_()
        for _ in range(3):
            margins = x @ w
            loss = torch.nn.functional.binary_cross_entropy_with_logits(margins, p)
            w = w - given["rate"] * torch.autograd.grad(loss, w, create_graph=True)[0]
        torch.testing.assert_close(found[task], w)
        alone = by_steps(x.numpy(), p.numpy(), given["start"].numpy(), 3, 0.7)
        assert alone == pytest.approx(w.detach().numpy())


@pytest.mark.parametrize("of", ["start", "differences", "rate"])
def test_the_gradient_through_inner_steps_is_exact(of: str) -> None:
    """Against central differences; without the inner steps' own derivative it would be another one."""
    given = tasks()

    def outer(value: torch.Tensor) -> torch.Tensor:
        now = {**given, of: value}
        head = inner(**now, steps=4)
        margins = (now["differences"] * head[:, None]).sum(-1)
        query = 1 - now["support"]
        return (torch.nn.functional.softplus(-margins) * query).sum()

    assert torch.autograd.gradcheck(outer, given[of].clone().requires_grad_(), eps=1e-6, atol=1e-6)
    first_order = given["start"].clone().requires_grad_()
    head = inner(**given, steps=4).detach() + first_order - given["start"]
    margins = (given["differences"] * head[:, None]).sum(-1)
    loss = (torch.nn.functional.softplus(-margins) * (1 - given["support"])).sum()
    exact = given["start"].clone().requires_grad_()
    one, other = (
        torch.autograd.grad(loss, first_order)[0],
        torch.autograd.grad(outer_of(given, exact), exact)[0],
    )
    assert not torch.allclose(one, other, rtol=0.05)


def outer_of(given: dict[str, torch.Tensor], start: torch.Tensor) -> torch.Tensor:
    head = inner(**{**given, "start": start}, steps=4)
    margins = (given["differences"] * head[:, None]).sum(-1)
    return (torch.nn.functional.softplus(-margins) * (1 - given["support"])).sum()


# ---- adapt ---------------------------------------------------------------------------------------------------------------


def test_the_adapted_model_is_a_plain_classifier_with_the_most_probable_head(
    heads: Path, tmp_path: Path
) -> None:
    """The head is the one that is fitted outside, transformers alone gives its scores, and so does the judge."""
    data = comparisons(tmp_path / "labels.jsonl", 12)
    found = adapt(heads, data, tmp_path / "run")
    assert found["adapted", "labels"].value == 12
    folder = tmp_path / "run" / "model"
    model = hf.AutoModelForSequenceClassification.from_pretrained(folder)
    assert model.config.num_labels == 1 and model.score.weight.shape == (1, 32)
    body = Body.at(str(heads), CPU, 128, 4096)
    labels = body.read(read_comparisons(str(data)), "labels", QUIET, 0.0)
    by_hand = most_probable(labels.differences, labels.p, gaussian_of(body.heads, 0.1))
    assert model.score.weight[0].detach().numpy() == pytest.approx(by_hand.mean, abs=1e-5)
    posterior = load_file(tmp_path / "run" / "posterior.safetensors")
    assert posterior["covariance"].numpy() == pytest.approx(by_hand.covariance, abs=1e-5)
    judge = build_judge({"judge": str(tmp_path / "run"), "normalise": "none"})
    [score] = judge.score([Response.written(Prompt("7 +"), " dog")])
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("7 +").input_ids + tokenizer(" dog").input_ids + [tokenizer.eos_token_id]
    with torch.no_grad():
        plain = model(torch.tensor([ids])).logits.item()
    assert score and score.value == pytest.approx(plain, abs=1e-4)


def test_a_group_of_a_file_and_the_first_so_many_labels(heads: Path, tmp_path: Path) -> None:
    data = comparisons(tmp_path / "labels.jsonl", 10, "x")
    comparisons(data, 10, "y", against)
    found = adapt(heads, data, tmp_path / "run", group="y", labels=6)
    assert found["adapted", "labels"].value == 6
    other = adapt(heads, comparisons(tmp_path / "y.jsonl", 10, "y", against), tmp_path / "b", labels=6)
    same = ("adapted", "prior_distance")
    assert found[same].value == pytest.approx(other[same].value)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"group": "nobody"}, "no comparison whose group is nobody"),
        ({"prior": "inner-steps"}, "prior=inner-steps is for another kind of model"),
        ({"prior": "ridge", "shrinkage": 0.5}, "shrinkage is of prior=gaussian"),
        ({"prior": "mixture", "strength": 2.0}, "strength is of a prior with a spread"),
        ({"shrinkage": -0.5}, "-0.5 is no share"),
        ({"data": "store:main", "group": "x"}, "group=x is a column of files"),
    ],
)
def test_what_cannot_be_adapted_is_refused(
    heads: Path, tmp_path: Path, given: dict[str, Any], sentence: str
) -> None:
    data = comparisons(tmp_path / "labels.jsonl", 4)
    asked = {"data": data, **given}
    with pytest.raises(ValueError, match=sentence):
        adapt(heads, out=tmp_path / "run", **asked)
    assert not (tmp_path / "run" / "model").exists()


def test_rows_that_cannot_be_used_stop_it_where_they_are_too_many(heads: Path, tmp_path: Path) -> None:
    data = comparisons(tmp_path / "labels.jsonl", 6)
    with data.open("a") as file:
        file.write(json.dumps({"prompt": "1 +", "chosen": " cat", "rejected": " cat"}) + "\n")
    found = adapt(heads, data, tmp_path / "run", max_dropped_share=0.2)
    assert found["adapted", "labels"].value == 6
    with pytest.raises(ValueError, match="max_dropped_share"):
        adapt(heads, data, tmp_path / "other")


def test_one_head_says_nothing_of_how_groups_differ(base: Path, tmp_path: Path) -> None:
    save(load_scalar(base / "model", heads=1), make_tokenizer(), tmp_path / "one" / "model")
    with pytest.raises(ValueError, match="has one head, which says nothing of how groups differ"):
        adapt(tmp_path / "one", comparisons(tmp_path / "labels.jsonl", 4), tmp_path / "run")


def test_heads_of_criteria_are_not_of_groups(base: Path, tmp_path: Path) -> None:
    module = load_scalar(base / "model", heads=2)
    name_heads(module, ["true", "kind"], [1.0, 0.5], "criteria")
    save(module, make_tokenizer(), tmp_path / "rated" / "model")
    with pytest.raises(ValueError, match="has a head for each criterion of ratings, not of a group"):
        adapt(tmp_path / "rated", comparisons(tmp_path / "labels.jsonl", 4), tmp_path / "run")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"inner_steps": 3}, "inner_steps is about adapts_by=inner-steps"),
        ({"adapts_by": "inner-steps"}, "learns from groups, and there are none"),
        ({"adapts_by": "inner-steps", "groups": "each", "members": 2}, "members means nothing with"),
    ],
)
def test_settings_of_inner_steps(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build(RewardSettings, {"out": "x", **given})


def test_each_wants_two_groups(base: Path, tmp_path: Path) -> None:
    data = comparisons(tmp_path / "pairs.jsonl", 8, "a")
    with pytest.raises(ValueError, match="has 1 groups in its column group, and heads are for two or more"):
        train(base, data, tmp_path / "run", groups="each")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"labels": [8, 0]}, "no rising list"),
        ({"priors": ["ridge", "ridge"]}, "no list of different priors"),
        ({"priors": ["inner-steps"]}, "is of the model, which says so itself"),
    ],
)
def test_settings_of_eval_groups(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build(GroupsSettings, {"models": ["x"], "data": "a", "eval_data": "b", **given})


@pytest.mark.slow
def test_a_new_group_is_found_from_few_labels_where_pooling_sees_nothing(base: Path, tmp_path: Path) -> None:
    """Two groups with opposite tastes teach; of two new groups each is like one of them, and 12 labels tell which."""
    data = comparisons(tmp_path / "pairs.jsonl", 150, "a")
    comparisons(data, 150, "b", against)
    trained = train(base, data, tmp_path / "heads", groups="each")
    assert load_scalar(trained / "model").head.weight.shape[0] == 2
    pooled = train(base, data, tmp_path / "pooled", epochs=1)
    for name, better in (("up", WORDS.index), ("down", against)):
        labels = comparisons(tmp_path / f"{name}.jsonl", 12, better=better)
        query = comparisons(tmp_path / f"{name}-query.jsonl", 80, better=better)
        for prior in ("gaussian", "ridge", "mixture"):
            run = tmp_path / f"{name}-{prior}"
            found = adapt(trained, labels, run, eval_data=str(query), prior=prior, pooled=str(pooled))
            assert found["adapted", "accuracy"].value > 0.9  # type: ignore[operator]
            assert found["adapted", "accuracy_cross_validated"].value > 0.8  # type: ignore[operator]
            assert found["pooled", "accuracy"].value is not None
    up, down = (score(tmp_path / f"{name}-gaussian", WORDS) for name in ("up", "down"))
    assert np.argmax(up) == 3 and np.argmin(up) == 0 and np.argmax(down) == 0 and np.argmin(down) == 3


def score(run: Path, words: Sequence[str]) -> list[float]:
    found = build_judge(str(run)).score([Response.written(Prompt("7 +"), f" {word}") for word in words])
    return [one.value for one in found if one]


@pytest.mark.slow
def test_inner_steps_from_heads_lead_to_both_tastes(base: Path, tmp_path: Path) -> None:
    data = comparisons(tmp_path / "pairs.jsonl", 150, "a")
    comparisons(data, 150, "b", against)
    trained = train(base, data, tmp_path / "heads", groups="each")
    meta = train(
        trained,
        data,
        tmp_path / "meta",
        groups="each",
        batch_by="auto",
        adapts_by="inner-steps",
        max_steps=20,
        batch_size=64,
        learning_rate=1e-3,
    )
    labels = comparisons(tmp_path / "down.jsonl", 12, better=against)
    query = comparisons(tmp_path / "query.jsonl", 80, better=against)
    found = adapt(meta, labels, tmp_path / "run", eval_data=str(query), prior="inner-steps")
    assert found["adapted", "accuracy"].value > 0.9  # type: ignore[operator]
    assert not hasattr(load_scalar(tmp_path / "run" / "model").config, "tutelage_inner_rate")


@pytest.mark.slow
def test_curves_over_groups_beside_a_pooled_model_and_its_fine_tuning(
    base: Path, heads: Path, tmp_path: Path
) -> None:
    """Every number is the one that adapt gives for the group by itself; nothing is tuned twice."""
    data, query = tmp_path / "labels.jsonl", tmp_path / "query.jsonl"
    for group, better in (("x", WORDS.index), ("y", against)):
        comparisons(data, 8, group, better)
        comparisons(query, 30, group, better)
    pooled = train(base, comparisons(tmp_path / "pairs.jsonl", 40), tmp_path / "pooled", epochs=1)
    settings = {
        "models": [f"heads={heads}"],
        "data": str(data),
        "eval_data": str(query),
        "labels": [0, 8],
        "pooled": str(pooled),
        "tune_steps": 2,
        "precision": "fp32",
        "out": tmp_path / "curves",
    }
    launch("eval groups", build(GroupsSettings, settings), QUIET)
    found = {(r.model, r.metric, r.task): r.value for r in rows.read(tmp_path / "curves" / "results.json")}
    for group in ("x", "y"):
        alone = adapt(heads, data, tmp_path / group, group=group, eval_data=str(query))
        assert found["heads/gaussian", "accuracy@8-labels", group] == alone["adapted", "accuracy"].value
        assert found["heads/gaussian", "accuracy@0-labels", group] == alone["mean head", "accuracy"].value
    both = [found["fine-tuned", "accuracy@8-labels", g] for g in ("x", "y")]
    gain = found["heads/gaussian", "accuracy@8-labels", "all"] - np.mean(both)  # type: ignore[arg-type,operator]
    assert found["heads/gaussian", "gain@8-labels", "all"] == pytest.approx(gain)
    assert found["fine-tuned", "accuracy@0-labels", "all"] == found["pooled", "accuracy@8-labels", "all"]
    assert (tmp_path / "curves" / "tuned" / "x-8" / "model").is_dir()
