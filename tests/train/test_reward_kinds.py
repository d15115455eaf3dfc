"""`reward` as a command: encoders, ensembles, heads of groups and of criteria, and what their judges say."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from rich.console import Console
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tests.train.making import make_model, make_tokenizer
from tutelage.evals import rows
from tutelage.judges.build import build_judge
from tutelage.launch import launch
from tutelage.models.loading import load_scalar, save
from tutelage.records import Prompt, Response
from tutelage.settings.reward import ProcessSettings, RewardSettings
from tutelage.settings.rl import PPOSettings
from tutelage.train.plan import plan
from tutelage.train.ratings import scale_of, sentence

WORDS = ("cat", "dog", "mat", "red")  # each better than the one before
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = make_tokenizer()
    folder = tmp_path_factory.mktemp("base")
    save(make_model(tokenizer), tokenizer, folder / "model")
    return folder


@pytest.fixture(scope="module", params=["bert", "roberta"])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small encoder that was pretrained to fill gaps, so that it has no head for scores."""
    folder = tmp_path_factory.mktemp(request.param)
    words = [*SPECIAL, *WORDS, *map(str, range(100)), "+", "user", "assistant", ":"]
    plain = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    plain.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(
        zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True)
    )
    hf.PreTrainedTokenizerFast(tokenizer_object=plain, **names).save_pretrained(folder)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    kinds: dict[str, tuple[Any, Any]] = {
        "bert": (hf.BertConfig, hf.BertForMaskedLM),
        "roberta": (hf.RobertaConfig, hf.RobertaForMaskedLM),
    }
    config, model = kinds[request.param]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model(
            config(vocab_size=len(words), max_position_embeddings=64, pad_token_id=0, **size)
        ).save_pretrained(folder)
    return folder


def comparisons(path: Path, n: int = 120, groups: Sequence[str] = ("",)) -> Path:
    """Pairs of words, the later one better; for the second group the earlier one."""
    draw = random.Random(0)
    with path.open("w") as file:
        for i in range(n):
            better, worse = sorted(draw.sample(WORDS, 2), key=WORDS.index, reverse=True)
            group = draw.choice(groups)
            if len(groups) > 1 and group == groups[1]:
                better, worse = worse, better
            row = {"prompt": f"{i} +", "chosen": f" {better}", "rejected": f" {worse}", "group": group}
            file.write(json.dumps(row) + "\n")
    return path


def train(base: Path, data: Path, out: Path, **given: object) -> dict[str, rows.Row]:
    settings = {
        "model": str(base),
        "data": str(data),
        "out": out,
        "learning_rate": 5e-3,
        "batch_size": 16,
        "epochs": 6,
        "tensorboard": False,
        "precision": "fp32",
        **given,
    }
    launch("reward", RewardSettings(**settings), Console(quiet=True))  # type: ignore[arg-type]
    return {row.metric: row for row in rows.read(out / "results.json")}


def answers(*texts: str) -> list[Response]:
    return [Response.written(Prompt("7 +"), text) for text in texts]


@pytest.mark.slow
def test_an_encoder_learns_and_is_a_plain_sequence_classifier(encoder: Path, tmp_path: Path) -> None:
    """transformers alone, with its own tokenizer and padding, gives the scores that the judge gives."""
    found = train(encoder, comparisons(tmp_path / "pairs.jsonl"), tmp_path / "run")
    assert found["accuracy"].low is not None and found["accuracy"].low > 0.6
    said = build_judge(
        [str(tmp_path / "run")] if False else {"judge": str(tmp_path / "run"), "normalise": "none"}
    )
    texts = [" cat", " dog cat mat red", " red"]
    scores = [score.value for score in said.score(answers(*texts)) if score]
    folder = tmp_path / "run" / "model"
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    model = hf.AutoModelForSequenceClassification.from_pretrained(folder)
    rows_ = tokenizer([f"7 +{text}" for text in texts], padding=True, return_tensors="pt")
    rows_.pop("token_type_ids", None)
    with torch.no_grad():
        plain = model(**rows_).logits.squeeze(-1)
    assert scores == pytest.approx(plain.tolist(), abs=1e-4)
    assert scores[0] < scores[2]


@pytest.mark.slow
def test_an_encoder_learns_with_an_adapter_and_rewards_a_policy_of_another_family(
    encoder: Path, base: Path, tmp_path: Path
) -> None:
    data = comparisons(tmp_path / "pairs.jsonl")
    found = train(encoder, data, tmp_path / "run", lora_rank=4, learning_rate=0.02)
    assert found["accuracy"].low is not None and found["accuracy"].low > 0.6
    ppo = PPOSettings(
        model=str(base),
        reward=str(tmp_path / "run"),
        critic="policy",
        prompts=str(data),
        out=tmp_path / "ppo",
        batch_size=4,
        max_new_tokens=5,
        max_steps=1,
        max_approx_kl=10.0,
        tensorboard=False,
    )
    launch("ppo", ppo, Console(quiet=True))
    assert (tmp_path / "ppo" / "model" / "config.json").is_file()


def test_an_encoder_has_no_value_for_a_beginning(encoder: Path) -> None:
    from tests.train.making import collate_rows, make_rows

    model = load_scalar(encoder)
    with pytest.raises(ValueError, match="critic=policy"):
        model(collate_rows(make_rows(2, vocabulary=50), range(2)), at="tokens")


def test_an_encoder_is_not_pooled_twice(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pooling=mean is for models that read from left to right"):
        train(encoder, comparisons(tmp_path / "pairs.jsonl"), tmp_path / "run", pooling="mean")


def test_an_encoder_reads_steps_with_those_behind_them(encoder: Path, tmp_path: Path) -> None:
    rows = ({"prompt": f"{i} +", "steps": ["cat", "dog"], "marks": [1, -1]} for i in range(9))
    (tmp_path / "steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = ProcessSettings(model=str(encoder), data=str(tmp_path / "steps.jsonl"), out=tmp_path / "run")
    with pytest.raises(ValueError, match="is an encoder, which reads every step with those that follow it"):
        launch("process", settings, Console(quiet=True))


def test_the_head_of_an_encoder_depends_on_the_seed_alone(encoder: Path) -> None:
    torch.manual_seed(1)
    one = load_scalar(encoder, seed=3).state_dict()
    torch.manual_seed(2)
    for name, value in load_scalar(encoder, seed=3).state_dict().items():
        assert torch.equal(value, one[name]), name
    other = load_scalar(encoder, seed=4).state_dict()
    assert [name for name in one if not torch.equal(one[name], other[name])]


@pytest.mark.slow
def test_an_ensemble_is_trained_by_one_command_and_speaks_with_one_voice(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    found = train(base, comparisons(tmp_path / "pairs.jsonl"), out, members=3)
    assert {"accuracy@member-1", "accuracy@member-3", "members_agree", "members_std"} <= found.keys()
    paths = [out, out / "members" / "2", out / "members" / "3"]
    weights = [load_scalar(path).head.weight for path in paths]
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[2])
    responses = answers(" cat", " red")
    alone = np.array([[s.value for s in build_judge(str(p / "model")).score(responses) if s] for p in paths])
    together = build_judge(str(out)).score(responses)
    worst = build_judge([{"judge": [str(out)], "combine": "worst"}]).score(responses)
    for i, (mean, low) in enumerate(zip(together, worst, strict=True)):
        assert mean and low
        assert mean.value == pytest.approx(alone[:, i].mean(), abs=1e-5)
        assert mean.parts["std"] == pytest.approx(alone[:, i].std(), abs=1e-5)
        assert low.value == pytest.approx(alone[:, i].min(), abs=1e-5)
    with pytest.raises(ValueError, match="at least two"):
        build_judge([{"judge": [str(out / "members" / "2")]}])


@pytest.mark.slow
def test_groups_with_opposite_tastes_are_both_found_and_said_to_be_opposed(
    base: Path, tmp_path: Path
) -> None:
    data = comparisons(tmp_path / "pairs.jsonl", 300, ("a", "b"))
    found = train(base, data, tmp_path / "run", groups={"a": [], "b": []})
    for name in ("a", "b"):
        assert found[f"accuracy@{name}"].value > 0.9  # type: ignore[operator]
        assert found[f"accuracy_other_heads@{name}"].high < 0.5  # type: ignore[operator]
    assert found["heads_correlation"].value < -0.8  # type: ignore[operator]
    one, other = build_judge(str(tmp_path / "run")).score(answers(" cat", " red"))
    assert one and other and one.parts["a"] < other.parts["a"] and one.parts["b"] > other.parts["b"]
    pooled = train(base, data, tmp_path / "pooled")
    assert pooled["accuracy"].value < 0.75  # type: ignore[operator]


@pytest.mark.slow
def test_ratings_give_a_head_for_each_criterion_and_their_weighted_mean(base: Path, tmp_path: Path) -> None:
    """Three annotators with scales of their own: what they agree on is learnt."""
    draw, scales = random.Random(1), {"ann": (1, 1), "bob": (10, 5), "eve": (0, 0.2)}
    with (tmp_path / "ratings.jsonl").open("w") as file:
        for i in range(300):
            word, (who, (low, step)) = draw.choice(WORDS), draw.choice(list(scales.items()))
            values = {"good": low + step * WORDS.index(word), "short": low - step * (word == "red")}
            row = {"prompt": f"{i // 4} +", "response": f" {word}", "values": values, "annotator": who}
            file.write(json.dumps(row) + "\n")
    given = {"learn_from": "ratings", "criteria": {"good": 3.0, "short": 1.0}}
    launch_rows = tmp_path / "run"
    train(base, tmp_path / "ratings.jsonl", launch_rows, **given)
    by_task = {(r.metric, r.task): r.value for r in rows.read(launch_rows / "results.json")}
    assert by_task["rating_correlation", "good"] > 0.9 and by_task["rating_explained", "good"] > 0.8  # type: ignore[operator]
    assert json.loads((launch_rows / "model" / "config.json").read_text())["tutelage_heads"] == "criteria"
    judge = build_judge({"judge": str(launch_rows), "normalise": "none"})
    for score in judge.score(answers(" cat", " red")):
        assert score
        good, short = score.parts["run/good"], score.parts["run/short"]
        assert score.value == pytest.approx((3 * good + short) / 4, abs=1e-5)


def test_who_rates_seldom_or_always_the_same_is_put_beside_everybody() -> None:
    ratings = np.array([[1.0], [2], [3], [4], [5], [9], [3], [3], [3], [3], [3], [np.nan]])
    who = np.array([1] * 5 + [2] + [3] * 5 + [1])
    found = scale_of(ratings, who, "annotator")(ratings, who)[:, 0]
    assert found[:5] == pytest.approx((np.arange(1, 6) - 3) / np.sqrt(2), abs=1e-6)
    mean, std = np.nanmean(ratings), np.nanstd(ratings)
    assert found[5:11] == pytest.approx((ratings[5:11, 0] - mean) / std, abs=1e-6) and np.isnan(found[11])
    assert scale_of(ratings, who, "none")(ratings, who)[5] == 9


@pytest.mark.slow
def test_an_ensemble_with_ties_goes_on_to_the_bit(base: Path, tmp_path: Path) -> None:
    """What was stopped after a step and started again ends with the weights of a run that was left alone."""
    data = tmp_path / "pairs.jsonl"
    data.write_text(
        "".join(
            json.dumps(
                {"prompt": f"{i} +", "chosen": " cat", "rejected": " dog", "p_chosen": 0.5 + 0.5 * (i % 2)}
            )
            + "\n"
            for i in range(20)
        )
    )
    given = {
        "members": 2,
        "loss": "rao-kupper",
        "schedule": "constant",
        "warmup": 0.0,
        "save_every": 1,
        "batch_size": 4,
    }
    for steps in (2, 4):
        train(base, data, tmp_path / "stopped", max_steps=steps, **given)
    train(base, data, tmp_path / "whole", max_steps=4, **given)
    for path in ("model", "members/2/model", "checkpoints/step-00000004"):
        [one, other] = (
            {
                str(f.relative_to(tmp_path / run)): f.read_bytes()
                for f in (tmp_path / run / path).rglob("*.safetensors")
            }
            for run in ("stopped", "whole")
        )
        assert one == other and one


@pytest.mark.slow
def test_memory_is_planned_for_every_member_and_for_encoders(base: Path, encoder: Path) -> None:
    def total(**given: object) -> float:
        settings = RewardSettings(out=Path("x"), data="x", max_length=32, **{"model": str(base), **given})  # type: ignore[arg-type]
        return plan(settings, "cpu", torch.float32, 1e12).total

    assert total(members=3) > total(members=2) > total()
    assert total(model=str(encoder)) > 0
    assert total(learn_from="ratings") <= total()


@pytest.mark.slow
def test_a_critic_does_not_start_from_what_gives_no_values(base: Path, tmp_path: Path) -> None:
    """Two heads: critic=auto starts from the policy, and naming the model is refused."""
    data = comparisons(tmp_path / "pairs.jsonl", 40, ("a", "b"))
    train(base, data, tmp_path / "run", groups={"a": [], "b": []}, max_steps=1)
    given = {
        "model": str(base),
        "reward": str(tmp_path / "run"),
        "prompts": str(data),
        "batch_size": 2,
        "max_new_tokens": 3,
    }
    given |= {"max_steps": 1, "max_approx_kl": 10.0, "tensorboard": False}
    launch("ppo", PPOSettings(out=tmp_path / "ppo", **given), Console(quiet=True))  # type: ignore[arg-type]
    assert (tmp_path / "ppo" / "model" / "config.json").is_file()
    named = PPOSettings(out=tmp_path / "named", critic=str(tmp_path / "run"), **given)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="critic=policy"):
        launch("ppo", named, Console(quiet=True))


def test_a_rank_correlation_that_is_none_is_a_sentence_too() -> None:
    one = rows.Row("reward", "rating_correlation", "good", 0.5, -0.25, 1.0, n=1, unit="correlation")
    assert sentence(one).endswith("good: rank correlation 0.500 [-0.250, 1.000] on 1 response.")
    assert sentence(replace(one, low=None, high=None)).endswith("rank correlation 0.500 on 1 response.")
    assert "no rank correlation on 3 responses" in sentence(replace(one, value=None, n=3))
