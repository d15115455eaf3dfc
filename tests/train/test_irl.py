"""`irl`: in an enumerable world it finds the reward that the demonstrations were written by; its file is a judge."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

from tests.oracle import BETA, SEQUENCES, TabularPolicy, oracle
from tests.rollout.conftest import WORDS
from tutelage.evals.rows import read
from tutelage.judges.build import build_judge
from tutelage.launch import launch
from tutelage.models.loading import load_policy, load_tokenizer, save
from tutelage.models.tiny import tiny_model, train_tokenizer
from tutelage.records import Prompt, Response
from tutelage.resume import read_metrics
from tutelage.rollout import beside
from tutelage.rollout.local import LocalGenerator
from tutelage.settings.base import build
from tutelage.settings.irl import IRLSettings
from tutelage.statistics.choices import Choices
from tutelage.train.irl import Beside, learn
from tutelage.train.irl_results import expected_by_draws, explained

# ---- the enumerable world ----------------------------------------------------------------------------------------------

FEATURES = np.array([[y.count(0), y.count(1), len(y), float(y[0] == 1)] for y in SEQUENCES], float)
NAMES = ["zeros", "ones", "tokens", "begins"]
REF = oracle().ref_logprobs.numpy()
N = 2000


def tabular(**changes: Any) -> IRLSettings:
    """`irl` on features by those names; whatever judges they are, they were asked before."""
    named = [{"judge": "formula:flesch", "name": name} for name in NAMES]
    return IRLSettings(data="-", features=named, kl_coef=BETA, l2=1e-6, **changes)


def normalised(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return float((np.exp(p) * (p - q)).sum())


def demonstrated(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The true reward [15], the policy that is optimal for it, and 2,000 demonstrations by that."""
    generator = np.random.default_rng(seed)
    reward = FEATURES @ (0.6 * generator.normal(size=4))
    best = normalised(REF + reward / BETA)
    return reward, best, generator.choice(15, N, p=np.exp(best))


def listed(shown: np.ndarray) -> Beside:
    return Beside(FEATURES[shown], [FEATURES] * N, [REF] * N, np.arange(N), np.zeros(N, bool), listed=True)


def drawn(shown: np.ndarray, samples: int, seed: int) -> Beside:
    own = np.random.default_rng(100 + seed).choice(15, (N, samples), p=np.exp(REF))
    return Beside(
        FEATURES[shown], list(FEATURES[own]), [np.zeros(samples)] * N, np.arange(N), np.zeros(N, bool)
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("samples", [0, 1, 16])
def test_the_reward_is_recovered(seed: int, samples: int) -> None:
    """samples 0: all sequences are listed.  With one sample it is a Bradley-Terry model, and still consistent."""
    reward, best, shown = demonstrated(seed)
    data = drawn(shown, samples, seed) if samples else listed(shown)
    found = learn(data, tabular())
    said = FEATURES @ found.weights
    policy = normalised(REF + said / BETA)
    assert np.corrcoef(said, reward)[0, 1] > 0.95
    assert kl(best, policy) < 0.02
    off = (found.theta - (0.6 * np.random.default_rng(seed).normal(size=4)) / BETA * found.scale) / (
        found.errors / BETA * found.scale
    )
    assert np.abs(off).max() < 3.5  # standard errors
    if not samples:
        gap = np.abs(FEATURES[shown].mean(0) - np.exp(policy) @ FEATURES).max()
        assert gap < 1e-3
        figures = explained(data, found).figures
        assert figures["feature_gap"] < 1e-3
        assert figures["gain"] == pytest.approx(float((policy - REF)[shown].mean()), abs=1e-9)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_reward_carries_over_to_another_model(seed: int) -> None:
    """Optimised from another reference, as far from it as imitation goes, it earns more of the true reward."""
    reward, _, shown = demonstrated(seed)
    theta = torch.randn(7, 3, generator=torch.Generator().manual_seed(10 + seed)) * 0.7
    other = TabularPolicy(theta.double()).sequence_logprobs().detach().numpy()
    shares = np.bincount(shown, minlength=15) / N
    there = shares > 0
    far = float((shares[there] * (np.log(shares[there]) - other[there])).sum())
    said = FEATURES @ learn(drawn(shown, 16, seed), tabular()).weights
    low, high = 1e-3, 50.0
    for _ in range(60):  # the kl_coef at which the policy is as far away as imitation is
        middle = (low * high) ** 0.5
        policy = normalised(other + said / middle)
        low, high = (middle, high) if kl(policy, other) > far else (low, middle)
    assert kl(policy, other) == pytest.approx(far, rel=1e-6)
    assert np.exp(policy) @ reward > shares @ reward + 0.01


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_gap_is_not_that_of_few_samples(seed: int) -> None:
    """Where the reward is right, eight draws show a gap that is near what the demonstrations' own chance makes it: a deviation
    over the root of 2,000."""
    _, _, shown = demonstrated(seed)
    data = drawn(shown, 8, seed)
    found = learn(data, tabular())
    own = data.choices(found.scale, ranked=False)
    plain = np.abs(own.chosen.mean(0) - own.expected(own.weights(found.theta)[0]).mean(0)).max()
    gap = explained(data, found).figures["feature_gap"]
    assert gap < 0.05 and gap < 0.7 * plain


def test_one_draw_is_its_own_mean() -> None:
    draws = Choices(np.zeros((1, 1)), np.array([[3.0]]), np.array([0]), np.zeros(1), np.zeros(1, int))
    assert expected_by_draws(draws, np.ones(1)) == pytest.approx(np.array([[3.0]]))
    by_hand = Choices(
        np.zeros((1, 1)), np.array([[1.0], [4.0]]), np.array([0]), np.zeros(2), np.zeros(1, int)
    )
    # 2 x (0.75 x 1 + 0.25 x 4) less (4 + 1) / 2
    assert expected_by_draws(by_hand, np.array([0.75, 0.25])) == pytest.approx(np.array([[1.0]]))


def test_few_samples_without_the_demonstration_would_not_do() -> None:
    """Why the demonstration is among the candidates: with two samples and without it the estimate is far off, with it near."""
    _, best, shown = demonstrated(1)
    data = drawn(shown, 2, 1)
    without = Beside(data.shown, data.own, data.base, data.prompts, data.held_out, listed=True)
    far, near = (
        kl(best, normalised(REF + FEATURES @ learn(one, tabular()).weights / BETA)) for one in (without, data)
    )
    assert near < 0.02 and far > 10 * near


# ---- the command -------------------------------------------------------------------------------------------------------


def capitals(completions: list[Any], **columns: Any) -> list[float | None]:
    """Letters a, for a feature; it does not apply to empty texts."""
    texts = [said if isinstance(said, str) else said[-1]["content"] for said in completions]
    return [float(text.count("a")) if text else None for text in texts]


COUNTED = {"judge": "python:tests.train.test_irl:capitals", "name": "as"}
SHORT = {"judge": "formula:overlong", "limit": 20, "margin": 20, "name": "short"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    tokenizer = train_tokenizer(WORDS, 280)
    folder = tmp_path_factory.mktemp("sft")
    model = tiny_model(tokenizer, hidden=16, layers=1, heads=2, context=64)
    with torch.no_grad():  # so that many responses end
        model.host.lm_head.weight[tokenizer.eos_token_id] += 0.9 * torch.randn(
            16, generator=torch.Generator().manual_seed(0)
        )
    save(model, tokenizer, folder / "model")
    return folder


@pytest.fixture
def given(checkpoint, tmp_path, monkeypatch) -> dict[str, Any]:
    monkeypatch.setattr(beside, "GROUP", 4)
    rows = [{"prompt": f"question {i}", "response": "a sea a" if i % 3 else "the town"} for i in range(12)]
    rows.append({"prompt": "question 0", "response": "sea a a a"})  # a second one to the same prompt
    rows.append({"prompt": "question 1", "response": "it is", "response_finish": "length"})
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "out": str(tmp_path / "run"), "model": str(checkpoint), "data": str(tmp_path / "data.jsonl"),
        "features": [COUNTED, SHORT], "samples": 6, "max_new_tokens": 12, "heldout_share": 0.25,
        "device": "cpu", "precision": "fp32", "kernels": "off",
    }  # fmt: skip


def irl(given: dict[str, Any], **changes: Any) -> str:
    said = io.StringIO()
    launch("irl", build(IRLSettings, {**given, **changes}), Console(file=said, width=200))
    return " ".join(said.getvalue().split())


def test_what_is_learnt_is_a_judge(given) -> None:
    said = irl(given)
    path = Path(given["out"]) / "reward.yaml"
    assert "Left out: 1 demonstrations that have no end" in said and f"reward={path}" in said
    parts = yaml.safe_load(path.read_text())["reward"]
    assert [(part["judge"], part["name"]) for part in parts] == [
        (COUNTED["judge"], "as"),
        (SHORT["judge"], "short"),
    ]
    weights = {part["name"]: part["weight"] for part in parts}
    assert weights["as"] > 0
    response = Response(Prompt("q"), "banana", (1,), (5,) * 7, (0.0,) * 7, "eos")
    [alone] = build_judge(str(path)).score([response])
    assert alone.value == pytest.approx(3 * weights["as"] - 7 / 20 * weights["short"])
    assert alone.parts == {"as": 3.0, "short": -0.35}
    [mixed] = build_judge([{"judge": str(path), "weight": 2.0, "name": "learnt"}, "formula:flesch"]).score(
        [response]
    )
    assert mixed.parts["learnt"] == alone.value and mixed.parts["learnt/as"] == 3.0
    rows = {(row.model, row.metric): row for row in read(Path(given["out"]) / "results.json")}
    assert rows["as", "weight"].value == weights["as"] and rows["as", "weight"].low < weights["as"]
    learnt, apart = rows["all", "gain"], rows["all", "eval_gain"]
    assert learnt.n + apart.n == 13 and apart.n >= 1 and learnt.value > 0
    [line] = read_metrics(Path(given["out"]))
    assert line["gain"] == learnt.value and 0 < line["effective_share"] <= 1


def test_with_other_settings_for_the_weights_nothing_is_drawn_anew(given, monkeypatch) -> None:
    irl(given)
    path = Path(given["out"]) / "reward.yaml"
    before = {part["name"]: part["weight"] for part in yaml.safe_load(path.read_text())["reward"]}
    with monkeypatch.context() as patch:
        patch.setattr(LocalGenerator, "generate", None)
        irl(given, kl_coef=0.1)
        after = {part["name"]: part["weight"] for part in yaml.safe_load(path.read_text())["reward"]}
        assert after == {name: pytest.approx(2 * weight) for name, weight in before.items()}
        irl(given, l2=1000.0)
    held = [part["weight"] for part in yaml.safe_load(path.read_text())["reward"]]
    assert np.abs(held).max() < 1e-3
    assert len(read_metrics(Path(given["out"]))) == 1
    with pytest.raises(ValueError, match="features"):
        irl(given, features=[SHORT])


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_files(given, tmp_path, monkeypatch) -> None:
    irl(given)
    again, draw, calls = {**given, "out": str(tmp_path / "again")}, LocalGenerator.generate, []

    def dies(self, *args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return draw(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(LocalGenerator, "generate", dies)
        with pytest.raises(KeyboardInterrupt):
            irl(again)
    irl(again)
    for name in ("samples.jsonl", "reward.yaml", "results.json"):
        assert (Path(again["out"]) / name).read_bytes() == (Path(given["out"]) / name).read_bytes()


@torch.no_grad()
def test_listed_candidates_weigh_what_the_model_says(given, tmp_path) -> None:
    """The log-probability of prompt and response by a plain forward; demonstrations that are not listed are refused."""
    said = ["a sea a", "the town", "sea a a a", "hello"]
    rows = [{"prompt": f"question {i}", "response": text} for i in range(12) for text in said]
    path = tmp_path / "all.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {**given, "candidates": str(path)}
    del options["samples"]
    irl(options)
    drawn_rows = [
        json.loads(line) for line in (Path(given["out"]) / "samples.jsonl").read_text().splitlines()
    ]
    assert len(drawn_rows) == 48
    folder = Path(given["model"]) / "model"
    tokenizer, host = load_tokenizer(folder), load_policy(folder, dtype=torch.float32, device="cpu").host
    for row in drawn_rows[:4]:
        prompt = tokenizer(row["prompt"])["input_ids"]
        ids = [*prompt, *tokenizer(row["response"])["input_ids"], tokenizer.eos_token_id]
        logp = host(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        whole = sum(float(logp[t - 1, ids[t]]) for t in range(len(prompt), len(ids)))
        assert row["base"] == pytest.approx(whole, abs=1e-4)
    [line] = read_metrics(Path(given["out"]))
    assert line["feature_gap"] < 0.01 and "effective_share" not in line
    path.write_text("".join(json.dumps(row) + "\n" for row in rows if row["response"] != "sea a a a"))
    with pytest.raises(
        ValueError, match=r"lists 3 responses to the prompt 'question 0', and its demonstration is none"
    ):
        irl({**options, "out": str(tmp_path / "other")})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"features": []}, "'features': it is empty: name at least one"),
        ({"features": [{**SHORT, "weight": 2}]}, "formula:overlong has weight, and a feature is a judge's score as it is"),
        ({"features": [{**SHORT, "gate": 0}]}, "has gate, and a feature"),
        ({"features": ["formula:flesch", "formula:flesch"]}, "2 features are called flesch: give each a name"),
        ({"features": ["formula:flush"]}, "there is no judge formula:flush"),
        ({"features": ["runs/a.yaml"]}, "runs/a.yaml is made of several judges"),
        ({"samples": 1, "temperature": 0.0}, "temperature=0 leaves the model one response to each prompt"),
        ({"candidates": "x.jsonl", "samples": 3}, "samples is for responses that are drawn, and candidates lists all"),
    ],
)  # fmt: skip
def test_settings_that_say_nothing_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        build(IRLSettings, {"data": "d.jsonl", "features": [SHORT], **changes})
    assert "\n" not in str(caught.value)


def test_what_cannot_be_learnt_is_said(given, tmp_path, monkeypatch) -> None:
    with pytest.raises(ValueError, match="the feature regex is the same for all responses to each prompt"):
        irl(given, features=[SHORT, {"judge": "formula:regex", "pattern": "zebra"}])
    draw = LocalGenerator.generate
    with monkeypatch.context() as patch:
        patch.setattr(
            LocalGenerator, "generate", lambda *args: [replace(one, finish="length") for one in draw(*args)]
        )
        with pytest.raises(ValueError, match="none of the model's responses ends within max_new_tokens=12"):
            irl({**given, "out": str(tmp_path / "cut"), "samples": 1})
    (tmp_path / "none.jsonl").write_text('{"prompt": "x", "response": "y", "response_finish": "length"}\n')
    with pytest.raises(ValueError, match="holds no demonstration that can be used"):
        irl({**given, "out": str(tmp_path / "none"), "data": str(tmp_path / "none.jsonl")})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seed: 1\n", "r.yaml holds seed, and a reward in a file is `reward:`"),
        ("", "r.yaml holds nothing"),
        ("reward:\n- {judge: formula:flush}\n", "r.yaml: part 1 .*there is no judge formula:flush"),
        ("reward:\n- other.yaml\n", "r.yaml names another file"),
        ("reward:\n- {judge: 'formula:flesch', normalise: rank}\n", "r.yaml: normalise: rank depends on the batch"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_reward_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ValueError, match=sentence) as caught:
        build_judge(str(tmp_path / "r.yaml"))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no .*missing\.yaml"):
        build_judge(str(tmp_path / "missing.yaml"))


def test_a_demonstration_that_is_longer_than_a_response_can_be_is_left_out(given) -> None:
    said = irl(given, max_new_tokens=6)
    assert re.search(r"Left out: \d+ demonstrations that are longer than max_new_tokens=6", said)
    assert read(Path(given["out"]) / "results.json")
