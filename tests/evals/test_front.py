"""The commands `soup` and `eval front` from models to the report, and what they refuse."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from rich.console import Console

from tests.evals.synthetic import write_run
from tutelage.evals import report
from tutelage.evals.folders import find
from tutelage.evals.front.members import Member, groups_of, members_of, training_time
from tutelage.files import sha256_of, write_jsonl_atomic
from tutelage.judges.judge import Judge
from tutelage.launch import launch
from tutelage.models.loading import save
from tutelage.models.tiny import tiny_model, train_tokenizer
from tutelage.pipeline import plan
from tutelage.records import Response, Score
from tutelage.settings.base import build, load
from tutelage.settings.front import FrontSettings
from tutelage.settings.pipeline import RunPipelineSettings
from tutelage.settings.soup import SoupSettings, simplex
from tutelage.train.soup import folders, other_starts

TEXTS = ["Anna has 3 apples and buys 4.", "The answer is 7.", "How are you?", "I am fine, thank you."]
HERE = f"python:{__name__}:"


class Vowels(Judge):
    """How many vowels; knows prompts with an even number only."""

    name = "vowels"

    def score(self, responses: list[Response]) -> list[Score | None]:  # type: ignore[override]
        even = [int(r.prompt.text().split()[-1]) % 2 == 0 for r in responses]
        counts = [float(sum(letter in "aeiou" for letter in r.text)) for r in responses]
        return [Score(n) if known else None for n, known in zip(counts, even, strict=True)]


class Length(Judge):
    name = "length"

    def score(self, responses: list[Response]) -> list[Score | None]:  # type: ignore[override]
        return [Score(float(len(r.text))) for r in responses]


REWARDS: list[Any] = [f"{HERE}Vowels", {"judge": f"{HERE}Length", "weight": -1, "name": "long"}]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A start and two runs that say that they come from it."""
    folder = tmp_path_factory.mktemp("front")
    tokenizer = train_tokenizer(TEXTS * 5, vocab_size=280)
    for seed, name in enumerate(("start", "a", "b")):
        model = tiny_model(tokenizer, hidden=32, layers=1, heads=2, context=64, seed=1)
        with torch.no_grad():
            model.host.lm_head.weight.mul_(2 + 2 * seed)
        save(model, tokenizer, folder / name / "model")
    digest = sha256_of(folder / "start" / "model")
    for name in "ab":
        write_run(folder / name, "ppo")
        lineage = json.loads((folder / name / "lineage.json").read_text())
        lineage["inputs"] = [{"name": "model", "path": str(folder / "start/model"), "sha256": digest}]
        (folder / name / "lineage.json").write_text(json.dumps(lineage))
    write_jsonl_atomic(folder / "prompts.jsonl", [{"prompt": f"question {i}"} for i in range(8)])
    return folder


def said(console: Console) -> str:
    return " ".join(console.export_text().split())


def test_from_two_policies_to_the_front_of_their_soups(root: Path) -> None:
    console = Console(width=100, record=True)
    two = [f"a={root / 'a'}", f"b={root / 'b'}"]
    launch("soup", SoupSettings(models=two, points=2, out=root / "soup"), console)
    lineage = json.loads((root / "soup" / "lineage.json").read_text())
    names = ["soup-1-0", "soup-0.5-0.5", "soup-0-1"]
    assert [made["folder"] for made in lineage["soups"]] == names
    assert all(made["sha256"] == sha256_of(root / "soup" / made["folder"]) for made in lineage["soups"])
    kept = json.loads((root / "soup" / names[1] / "soup.json").read_text())["models"]
    assert [(m["model"], m["weight"], m["sha256"]) for m in kept] == [
        (name, 0.5, sha256_of(root / name / "model")) for name in "ab"
    ]
    assert not list((root / "soup").glob(".merged*")) and "start" not in said(console)
    half, a, b = (
        hf.AutoModelForCausalLM.from_pretrained(root / path).lm_head.weight
        for path in ("soup/soup-0.5-0.5", "a/model", "b/model")
    )
    assert torch.allclose(half, (a + b) / 2)

    console = Console(width=200, record=True)
    launch(
        "eval front",
        FrontSettings(
            models=[f"soup={root / 'soup'}", f"policy/a={root / 'a'}", f"policy/b={root / 'b'}"],
            rewards=REWARDS,
            prompts=str(root / "prompts.jsonl"),
            reference=str(root / "start"),
            point=[0, 200],
            samples=2,
            max_new_tokens=8,
            resamples=100,
            precision="fp32",
            kernels="off",
            out=root / "front",
        ),
        console,
    )
    rows = json.loads((root / "front" / "results.json").read_text())
    found = {(r["model"], r["metric"]): r["value"] for r in rows if r["task"] == "all"}
    # What is the same model is the same number, in whichever group.
    for name, soup in (("a", "1-0"), ("b", "0-1")):
        assert found[f"policy/{name}", "reward/vowels"] == found[f"soup/{soup}", "reward/vowels"]
        assert found[f"policy/{name}", "kl"] == found[f"soup/{soup}", "kl"]
    assert found["reference", "kl"] == 0 and found["soup/0.5-0.5", "kl"] is not None
    assert found["soup", "hypervolume"] >= found["policy", "hypervolume"] > 0
    assert found["soup", "hypervolume_ratio@policy"] >= 1
    # Two runs of 41.5 s each, and a soup costs what its models cost.
    assert found["policy", "training_time"] == found["soup", "training_time"] == 83.0
    lines = [json.loads(line) for line in (root / "front" / "samples.jsonl").read_text().splitlines()]
    assert len(lines) == 4  # the odd ones are unknown to one reward
    for line in lines:
        for response in line["responses"].values():
            assert response["rewards"]["long"] == len(response["text"])
    text = said(console)
    assert "vowels does not apply to 4 of 8 prompts: left out" in text
    assert "Hypervolumes are measured from vowels 0.00, long 200.00 (as given)." in text
    assert "soup covers" in text and "long (less)" in text
    root_of = ElementTree.parse(root / "front" / "front.svg").getroot()
    assert root_of.tag == "{http://www.w3.org/2000/svg}svg"
    page = report.write(find([root / "front"]), root / "page", title="t").read_text()
    assert "Long against vowels" in page and "covers" in page and "Hypervolume" in page


def test_one_mixture_is_the_model_of_the_run(root: Path) -> None:
    out = root / "one"
    models = [str(root / "a"), str(root / "b")]
    launch("soup", SoupSettings(models=models, weights=[0.25, 0.75], out=out), Console(quiet=True))
    assert (out / "model" / "config.json").is_file()
    assert members_of([f"x={out}", f"g/y={root / 'a'}"]) == [
        Member("x", str(out / "model")),
        Member("g/y", str(root / "a" / "model"), "g"),
    ]
    assert training_time(members_of([f"x={out}", f"y={root / 'a'}"])) == 83.0
    assert training_time(members_of([f"x={out}", f"y={root / 'start'}"])) is None


def test_a_stage_points_into_a_soup() -> None:
    stages = [
        {"command": "soup", "models": ["x", "y"], "weights": [[0.25, 0.75], [0.5, 0.5]]},
        {"command": "eval", "models": ["soup-0.25=@soup/soup-0.25-0.75"], "prompts": "p.jsonl"},
    ]
    _, evaluated = plan(build(RunPipelineSettings, {"out": "runs/z", "stages": stages}))
    assert evaluated.settings.models == ["soup-0.25=runs/z/soup/soup-0.25-0.75"]  # type: ignore[attr-defined]


def test_groups_by_name(root: Path) -> None:
    a, b = root / "a", root / "b"
    assert groups_of(members_of([f"x={a}", f"y={b}"])) == {"all": [0, 1]}
    assert groups_of(members_of([f"g/x={a}", f"y={b}", f"g/z={b}"])) == {"g": [0, 2]}
    with pytest.raises(ValueError, match="called 'g': give that model another name"):
        members_of([f"g/x={a}", f"g={b}"])
    with pytest.raises(ValueError, match="one model is no front"):
        members_of([f"x={a}"])


def test_who_has_another_start_is_warned_about(tmp_path: Path) -> None:
    """By content: a copy of the start is the start; what was trained on from a policy has the policy's start."""

    def trained(name: str, start: str, sha256: str) -> dict[str, str]:
        folder = write_run(tmp_path / name, "ppo")
        lineage = json.loads((folder / "lineage.json").read_text())
        lineage["inputs"] = [{"name": "model", "path": start, "sha256": sha256}]
        (folder / "lineage.json").write_text(json.dumps(lineage))
        (folder / "model").mkdir()
        return {"path": str(folder / "model"), "sha256": name}

    one, copied = trained("one", "sft", "111"), trained("copied", "elsewhere/sft", "111")
    later = trained("later", str(tmp_path / "one" / "model"), "one")
    stranger = trained("stranger", "other", "222")
    bare = {"path": str(tmp_path / "nowhere"), "sha256": "333"}
    assert other_starts({"one": one, "copied": copied, "later": later}) == []
    (warning,) = other_starts({"one": one, "stranger": stranger})
    assert warning.startswith(
        "Warning: by their lineages one and stranger were not trained from the same start"
    )
    (unknown,) = other_starts({"one": one, "bare": bare})
    assert unknown.startswith("Nothing says whether one and bare were trained from the same start")
    assert other_starts({"one": one, "itself": {"path": "sft", "sha256": "111"}}) == []


def test_grids_by_hand() -> None:
    assert simplex(2, 4) == [[1, 0], [0.75, 0.25], [0.5, 0.5], [0.25, 0.75], [0, 1]]
    assert simplex(3, 2, ends=False) == [[0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    assert len(simplex(3, 4)) == 15
    thirds = SoupSettings(models=["a", "b", "c"], weights=[0.333333, 0.333333, 0.333334])
    assert sum(thirds.mixtures[0]) == 1
    with pytest.raises(ValueError, match=r"two soups would be named soup-0\.5-0\.5"):
        folders(SoupSettings(models=["a", "b"], weights=[[0.5, 0.5], [0.50001, 0.49999]]))


@pytest.mark.parametrize(
    "given, message",
    [
        ("models=[a] weights=[1.0]", "a soup is of two models or more, and here is one"),
        ("models=[a,b] weights=[0.5,0.4]", "sums to 0.9, and the weights of a soup sum to 1"),
        ("models=[a,b] weights=[1.5,-0.5]", "has a weight below 0"),
        ("models=[a,b] weights=[0.2,0.3,0.5]", "has 3 numbers for 2 models"),
        ("models=[a,b]", "neither is given"),
        ("models=[a,b] weights=[0.5,0.5] points=3", "both are given"),
        ("models=[a,b] points=1 ends=false", "leaves nothing between 2 models"),
        ("models=[a,b] weights=[0.5,0.5] ends=false", "ends is about the grid of points"),
        ("models=[a,untrained:b] points=2", "a soup is of weights: write b"),
    ],
)
def test_a_soup_of_nothing_is_refused_before_anything_is_read(given: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        load(SoupSettings, given.split(" "))


@pytest.mark.parametrize(
    "rewards, more, message",
    [
        (["world"], {}, "a front is between two rewards or more, and here are 1"),
        (
            ["world", {"judge": "formula:flesch", "weight": 0.5}],
            {},
            "weight is 0.5, but a front weighs nothing",
        ),
        (["world", "formula:flesch", {"judge": "a", "gate": 0.5}], {}, "a gate belongs to a mix"),
        (["world", {"judge": "formula:flesch", "normalise": "rank"}], {}, "depend on the other responses"),
        (["world", "formula:flesch"], {"point": [0.0]}, "point has 1 values for 2 rewards"),
        (["world", "formula:flesch"], {"temperature": 0.0, "samples": 2}, "the same response every time"),
        (
            ["world", "formula:flesch"],
            {"temperature": 0.0, "reference": "x"},
            "the KL is a mean over samples",
        ),
        (
            ["world", "formula:flesch"],
            {"models": ["few-shot-2:x", "y"]},
            "measured as they are here: write x",
        ),
    ],
)
def test_a_front_of_nothing_is_refused(rewards: list[Any], more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build(FrontSettings, {"models": ["a", "b"], "rewards": rewards, "prompts": "p", **more})


def test_what_no_reward_knows_is_refused(root: Path) -> None:
    write_jsonl_atomic(root / "odd.jsonl", [{"prompt": "question 1"}])
    with pytest.raises(ValueError, match="no prompt to which all of the rewards apply"):
        launch(
            "eval front",
            FrontSettings(
                models=[str(root / "a"), str(root / "b")],
                rewards=REWARDS,
                prompts=str(root / "odd.jsonl"),
                max_new_tokens=4,
                precision="fp32",
                kernels="off",
                out=root / "none",
            ),
            Console(quiet=True),
        )
