"""Tales: many right answers, a judge that is exact, prompts that are split, and a world with people beside them."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path

import pytest

from tutelage.judges.build import build_judge
from tutelage.records import Message, Prompt, Response
from tutelage.seeds import rng
from tutelage.settings.base import build
from tutelage.settings.worlds import WorldSettings
from tutelage.worlds import tale, tale_text
from tutelage.worlds.gold import grade
from tutelage.worlds.world import faultless, is_heldout, write_response
from tutelage.worlds.write import write_world

OWL = Prompt((Message("user", "Tell a tale of an owl."),), "tale", {"animal": "owl"})
ANIMALS = ("owl", "bee", "fox", "wolf", "hare", "mole")


def worth(prompt: Prompt, text: str) -> float:
    return grade(prompt, text).value


def test_every_animal_has_180_right_tales_and_the_judge_takes_no_other() -> None:
    """All sentences of the form, 6 x 6 x 6 x 6, against the rule in words: that animal; owls and bees fly, the others run."""
    words = (tale.ADJECTIVES, ANIMALS, tale.VERBS, tale.SPOTS)
    assert tale.ANIMALS == ANIMALS and [len(set(each)) for each in words] == [6] * 4
    for asked in ANIMALS:
        prompt = Prompt("", "tale", {"animal": asked})
        right = [
            (animal, verb)
            for adjective, animal, verb, place in itertools.product(*words)
            if worth(prompt, f"The {adjective} {animal} {verb} in the {place}.") == 1.0
        ]
        assert len(right) == 180 and {animal for animal, _ in right} == {asked}
        flies = {"flew" in verb for _, verb in right if verb in ("flew", "ran")}
        assert flies == {asked in ("owl", "bee")}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("The old owl flew in the wood.", {"form": 1, "animal": 1, "able": 1}),
        ("The old owl flew in the wood. ", {"form": 1, "animal": 1, "able": 1}),
        ("The old owl ran in the wood.", {"form": 1, "animal": 1, "able": 0}),
        ("The old fox ran in the wood.", {"form": 1, "animal": 0, "able": 1}),
        ("The old fox flew in the wood.", {"form": 1, "animal": 0, "able": 0}),
        ("The old owl flew in the wood", {"form": 0, "animal": 0, "able": 0}),
        ("The old shy owl flew in the wood.", {"form": 0, "animal": 0, "able": 0}),
        ("The old owl flew in the wood. The old owl flew in the wood.", {"form": 0, "animal": 0, "able": 0}),
        ("I do not know.", {"form": 0, "animal": 0, "able": 0}),
        ("", {"form": 0, "animal": 0, "able": 0}),
    ],
)
def test_what_is_right_of_a_tale(text: str, parts: dict[str, float]) -> None:
    found = grade(OWL, text)
    assert found.parts == parts and found.value == float(all(parts.values()))


def test_faultless_tales_are_right_and_flawed_ones_are_not() -> None:
    asked = tale_text.prompts(3, "test", 40)
    for number, prompt in enumerate(asked):
        assert worth(prompt, write_response(prompt, rng(0, "good", number), 0.0).text) == 1.0
        for name, (_, writer) in tale.flaws(dict(prompt.reference or {})).items():
            assert worth(prompt, writer(dict(prompt.reference or {}), rng(0, name, number))) == 0.0, name
    assert len(faultless(OWL)) > 10 and {worth(OWL, text) for text in faultless(OWL)} == {1.0}


def test_the_share_of_wrong_animals_in_demonstrations() -> None:
    shown = list(tale_text.demonstrations(0, 2000, 0.4))
    wrong = [
        grade(prompt, shown_.response).parts
        for shown_ in shown
        for prompt in [Prompt("", "tale", {"animal": shown_.prompt.text().split()[-1].strip(".?")})]
    ]
    assert sum(parts["form"] and not parts["animal"] for parts in wrong) / 2000 == pytest.approx(
        0.24, abs=0.03
    )
    assert sum(not all(parts.values()) for parts in wrong) / 2000 == pytest.approx(0.4, abs=0.03)


def test_prompts_are_split_and_all_there_are(tmp_path: Path) -> None:
    sides = [tale_text.prompts(0, "test", 10_000, heldout=heldout) for heldout in (False, True)]
    texts = [{prompt.text() for prompt in side} for side in sides]
    assert not texts[0] & texts[1] and sum(map(len, texts)) == len(tale.requests()) == 654
    for side in sides:
        assert {prompt.reference["animal"] for prompt in side if prompt.reference} == set(ANIMALS)
    counts = write_world(
        tmp_path, 1, document_count=50, demonstration_count=30, prompt_count=9999, heldout_count=7,
        solution_count=2, tasks=["tale"], people=40,
    )  # fmt: skip
    assert counts["prompts_train.jsonl"] == len(sides[0]) and counts["prompts_heldout.jsonl"] == 7
    rows = {
        name: [json.loads(line) for line in (tmp_path / name).read_text().splitlines()] for name in counts
    }
    assert {row["task"] for row in rows["demonstrations.jsonl"]} == {"tale", "facts", "twins"}
    assert {row["task"] for row in rows["people_train.jsonl"]} == {"facts"}
    tales = [row["text"] for row in rows["pretrain.jsonl"] if " tale of " in row["text"]]
    assert len(tales) == 50 and not any(is_heldout(text.splitlines()[0]) for text in tales)
    again = write_world(
        tmp_path / "again", 1, document_count=50, demonstration_count=30, prompt_count=9999, heldout_count=7,
        solution_count=2, tasks=["tale"], people=40,
    )  # fmt: skip
    assert all((tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in again)


def test_a_tale_stands_alone_but_for_people() -> None:
    assert build(WorldSettings, {"tasks": ["tale"], "people": 40}).people == 40
    with pytest.raises(ValueError, match=r"the task tale stands alone.*tasks=\['tale', 'maths'\]"):
        build(WorldSettings, {"tasks": ["tale", "maths"]})


def test_the_wrong_strategy() -> None:
    """A tale where a fact is asked, a fact where a tale is; what is merely wrong is neither."""
    judge = build_judge("python:tutelage.worlds.gold_tale:WrongStrategy")
    fact = Prompt("What is the home of Ba Mu Dorn?", "facts", {"answers": ["Arlen"]})
    said = {
        (OWL, "The old fox ran in the wood."): 0.0,
        (OWL, "It is Arlen."): 1.0,
        (OWL, "It is baking."): 1.0,
        (OWL, "It is unknown to me."): 1.0,
        (OWL, "It is Arlen. It is Arlen."): 0.0,
        (fact, "It is Arlen."): 0.0,
        (fact, "It is unknown to me."): 0.0,
        (fact, "The old fox ran in the wood."): 1.0,
        (fact, "owl"): 0.0,
    }
    scores = judge.score([Response.written(prompt, text) for prompt, text in said])
    assert [score.value for score in scores if score] == list(said.values())
    assert judge.score([Response.written(Prompt("q", "maths"), "It is Arlen.")]) == [None]


def test_several_people_to_a_request() -> None:
    asked = [demo.prompt.text() for demo in tale_text.demonstrations(0, 7, 0.5, each=3)]
    assert asked == [asked[0]] * 3 + [asked[3]] * 3 + [asked[6]] and len(set(asked)) == 3


ROOT = Path(__file__).resolve().parent.parent.parent


def test_what_the_page_says_of_a_taste_is_the_optimum_over_all_right_tales() -> None:
    """reference(y) exp(reward / weight), normalised, over the 180 tales: share of a liked word, entropy, how many differ."""
    tales = [
        f"The {adjective} owl {verb} in the {place}."
        for adjective, verb, place in itertools.product(tale.ADJECTIVES, tale.able("owl"), tale.SPOTS)
    ]
    rewards = [0.6 + 0.2 * (" old " in text) + 0.2 * (" wood." in text) for text in tales]
    page = (ROOT / "docs" / "creative.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (0\.\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", page, re.MULTILINE)
    assert len(rows) == 3
    for weight, *told in rows:
        odds = [math.exp(reward / float(weight)) for reward in rewards]
        p = [each / sum(odds) for each in odds]
        liked = sum(each for each, text in zip(p, tales, strict=True) if " old " in text)
        entropy = -sum(each * math.log(each) for each in p)
        differ = sum(1 - (1 - each) ** 64 for each in p) / 64
        assert [f"{number:.2f}" for number in (liked, entropy, differ)] == told
