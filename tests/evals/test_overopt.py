"""The command `eval overopt` on tiny models in the embedded world, and what it refuses."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from transformers import PreTrainedTokenizerFast

from tutelage.evals import overopt, report
from tutelage.evals.folders import find
from tutelage.files import write_jsonl_atomic
from tutelage.judges.judge import Judge
from tutelage.launch import launch
from tutelage.models.loading import load_policy, load_tokenizer, save
from tutelage.models.policy import PolicyModule
from tutelage.models.tiny import tiny_model, train_tokenizer
from tutelage.records import Prompt, Response, Score
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.settings.base import load
from tutelage.settings.evals import OveroptSettings
from tutelage.worlds import gold

TEXTS = ["Anna has 3 apples and buys 4.", "The answer is 7.", "How are you?", "I am fine, thank you."]


class Capitals(Judge):
    """A proxy with a loophole: how many different characters there are."""

    name = "capitals"

    def score(self, responses: list[Response]) -> list[Score | None]:  # type: ignore[override]
        return [Score(float(len(set(r.text)))) for r in responses]


class Short(Judge):
    """A gold standard that only knows prompts with an even number, and falls with what the proxy rises by."""

    name = "short"

    def score(self, responses: list[Response]) -> list[Score | None]:  # type: ignore[override]
        known = [int(r.prompt.text().split()[-1]) % 2 == 0 for r in responses]
        return [Score(-float(len(set(r.text)))) if k else None for r, k in zip(responses, known, strict=True)]


class Nobody(Judge):
    name = "nobody"

    def score(self, responses: list[Response]) -> list[Score | None]:  # type: ignore[override]
        return [None] * len(responses)


HERE = f"python:{__name__}:"


def model(tokenizer: PreTrainedTokenizerFast, seed: int, scale: float = 4.0) -> PolicyModule:
    made = tiny_model(tokenizer, hidden=32, layers=1, heads=2, context=96, seed=seed)
    with torch.no_grad():
        made.host.get_output_embeddings().weight.mul_(scale)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference, a run with two checkpoints, a model that is another's, and prompts."""
    root = tmp_path_factory.mktemp("overopt")
    tokenizer = train_tokenizer(TEXTS * 5, vocab_size=280)
    save(model(tokenizer, 1), tokenizer, root / "sft")
    for step, scale in ((5, 2.0), (10, 6.0)):
        checkpoint = root / "ppo" / "checkpoints" / f"step-{step:08d}"
        save(model(tokenizer, 1, scale), tokenizer, checkpoint / "policy")
        (checkpoint / "state.json").write_text("{}")
    save(model(tokenizer, 1, 6.0), tokenizer, root / "ppo" / "model")
    write_jsonl_atomic(root / "prompts.jsonl", [{"prompt": f"question {i}"} for i in range(8)])
    return root


def settings(folder: Path, **more: object) -> OveroptSettings:
    given = {
        "reference": str(folder / "sft"),
        "proxy": f"{HERE}Capitals",
        "gold": f"{HERE}Short",
        "prompts": str(folder / "prompts.jsonl"),
        "max_new_tokens": 6,
        "resamples": 100,
        "precision": "fp32",
        "kernels": "off",
        "out": folder / "out",
    }
    return OveroptSettings(**{**given, **more})  # type: ignore[arg-type]


def values(out: Path) -> dict[tuple[str, str], float | None]:
    return {(r["model"], r["metric"]): r["value"] for r in json.loads((out / "results.json").read_text())}


@pytest.mark.slow
def test_the_command_from_prompts_to_the_figure(folder: Path) -> None:
    console = Console(width=80, record=True)
    launch(
        "eval overopt",
        settings(folder, best_of=12, policies=[str(folder / "ppo"), str(folder / "ppo" / "model")]),
        console,
    )
    found, text = values(folder / "out"), " ".join(console.export_text().split())
    # Gold is the proxy turned round, of the four prompts that it knows.
    sizes = (1, 2, 4, 8, 12)
    for at in sizes:
        assert found["best-of-n", f"gold@{at}"] == pytest.approx(-(found["best-of-n", f"proxy@{at}"] or 0))
    proxy = [found["best-of-n", f"proxy@{at}"] or 0 for at in sizes]
    assert all(np.diff(proxy) > 0)
    assert found["best-of-n", "kl@4"] == pytest.approx(0.6363, abs=1e-4)
    assert found["best-of-n", "peak/point"] == 1 and found["best-of-n", "peak"] == 0
    assert found["best-of-n", "peak/fall"] == pytest.approx(proxy[-1] - proxy[0])
    # A run begins where the reference is; a model twice is the same policy, measured with the same draws.
    assert found["ppo", "kl@0"] == 0
    assert found["ppo", "gold@0"] == pytest.approx(found["best-of-n", "gold@1"])
    assert found["ppo", "kl@10"] == found["models", "kl@1"] != 0
    assert found["ppo", "gold@10"] == found["models", "gold@1"]
    assert ("ppo", "fit/alpha") in found and (
        "models",
        "fit/alpha",
    ) not in found  # of one point there is none
    # Before two thirds of the way to n = 12 there are 2 and 4 alone: nothing is foretold.
    assert not [metric for _, metric in found if metric.startswith("forecast/")]
    assert "gold does not apply to 4 of 8 prompts: left out" in text
    assert "best-of-n: gold peaks at the reference itself" in text and "the proxy still rises there" in text
    root = ElementTree.parse(folder / "out" / "overopt.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and "var(" not in ElementTree.tostring(
        root, "unicode"
    )
    lines = [json.loads(line) for line in (folder / "out" / "samples.jsonl").read_text().splitlines()]
    assert len(lines) == 4
    names = {"reference", "best of 12", "ppo@5", "ppo@10", "models@1"}
    assert all(set(line["responses"]) == names for line in lines)
    page = report.write(find([folder / "out"]), folder / "page", title="t").read_text()
    assert "best-of-n: gold peaks at the reference itself" in page and "Proxy and gold while" in page


def test_the_best_is_the_one_with_the_highest_proxy_of_all_that_were_drawn(folder: Path) -> None:
    """The winner of N is in the samples, and its score is what best-of-N has."""
    out = folder / "winner"
    launch("eval overopt", settings(folder, best_of=6, out=out), Console(quiet=True))
    lines = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    best = [len(set(line["responses"]["best of 6"]["text"])) for line in lines]
    assert values(out)["best-of-n", "proxy@6"] == pytest.approx(np.mean(best))


PLACES = {"kind": "answer", "facts": [["home", "Sara", "", "beach"], ["colour", "Sara", "bike", "green"]]}
PLACES |= {"about": ["home", "Sara", "", "beach"], "claimed": "", "verb": ""}
ASKED = "Sara lives at the beach. Sara has a green bike. Where does Sara live?"


def test_in_the_embedded_world(folder: Path) -> None:
    """Its gold standard, with a mix as the proxy: best of one is what the responses are worth on average."""
    out = folder / "in-the-world"
    row = {"prompt": ASKED, "task": "conversation", "reference": PLACES}
    write_jsonl_atomic(folder / "world.jsonl", [row])
    mix = [{"judge": "formula:length", "target": 4}, {"judge": "formula:repetition", "weight": 0.5}]
    more = {"proxy": mix, "gold": "world", "prompts": str(folder / "world.jsonl"), "out": out, "best_of": 64}
    launch("eval overopt", settings(folder, **more), Console(quiet=True))
    found = values(out)
    policy, tokenizer = load_policy(folder / "sft"), load_tokenizer(folder / "sft")
    prompt = Prompt(ASKED, "conversation", PLACES)
    responses = LocalGenerator(policy, tokenizer).generate([prompt], Sampling(6, samples=64))
    grades = [gold.grade(prompt, response.text).value for response in responses]
    assert found["best-of-n", "gold@1"] == pytest.approx(np.mean(grades))
    # n = 2, 4 and 8 lie before two thirds of the way to 64, three points behind; of one prompt there is no interval.
    told = {
        metric.removeprefix("forecast/"): value
        for (_, metric), value in found.items()
        if "forecast/" in metric
    }
    gold_at = np.array([found["best-of-n", f"gold@{2**k}"] for k in range(7)], float)
    assert told["seen"] == 3
    assert told["stays"] == pytest.approx(np.sqrt(np.mean((gold_at[4:] - gold_at[3]) ** 2)))
    assert told["advantage"] == pytest.approx((told["parabola"] or 0) - (told["log"] or 0))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"gold": f"{HERE}Nobody"}, "no prompt that both judges know .gold does not apply"),
        ({"policies": ["nowhere"]}, "nowhere"),
        ({"gold": "formula:nothing"}, "there is no judge formula:nothing"),
    ],
)
def test_what_cannot_be_measured_is_said(folder: Path, more: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        launch(
            "eval overopt",
            settings(folder, **{"best_of": 4, "out": folder / "wrong", **more}),
            Console(quiet=True),
        )


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["best_of=0"], "best_of=0 and no policies leave nothing to measure"),
        (["best_of=2"], "best_of=2 makes no curve"),
        (["temperature=0"], "temperature"),
    ],
)
def test_settings_that_make_no_curve(args: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        load(OveroptSettings, ["reference=a", "proxy=b", "prompts=c", *args])


def test_runs_by_one_name_and_adapters_are_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("a/ppo", "b/ppo"):
        (tmp_path / name / "checkpoints" / "step-00000005" / "policy").mkdir(parents=True)
        (tmp_path / name / "checkpoints" / "step-00000005" / "state.json").write_text("{}")
    with pytest.raises(ValueError, match="two curves would be named 'ppo'"):
        list(overopt.policies_in([str(tmp_path / "a/ppo"), str(tmp_path / "b/ppo")]))
    two = overopt.policies_in([str(tmp_path / "a/ppo"), f"again={tmp_path / 'b/ppo'}"])
    assert [(policy.curve, policy.at) for policy in two] == [("ppo", 5), ("again", 5)]
    (tmp_path / "a/ppo/checkpoints/step-00000005/policy/adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds an adapter without its model"):
        list(overopt.policies_in([str(tmp_path / "a/ppo")]))


def test_another_tokenizer_has_no_kl(folder: Path) -> None:
    other = train_tokenizer(["zebras quack queerly over foggy lakes"] * 9, vocab_size=280)
    save(model(other, 3), other, folder / "zebra")
    with pytest.raises(ValueError, match="zebra has another tokenizer than the reference"):
        launch(
            "eval overopt",
            settings(folder, policies=[str(folder / "zebra")], out=folder / "other"),
            Console(quiet=True),
        )
