"""A checker who can verify some steps: as often right as counting says, with help and without."""

from __future__ import annotations

import json
import math
from math import comb
from pathlib import Path

import numpy as np
import pytest

from tutelage.judges.build import build_judge
from tutelage.judges.llm.templates import read_template, unfenced
from tutelage.records import Message, Prompt, Response, Vote
from tutelage.seeds import rng
from tutelage.settings.base import build
from tutelage.settings.worlds import WorldSettings
from tutelage.worlds import chains, maths, world
from tutelage.worlds.checking import Faults, faults
from tutelage.worlds.gold import grade
from tutelage.worlds.judging import judgements
from tutelage.worlds.options_lines import write as write_options
from tutelage.worlds.write import write_world

N = 1500
ERROR = 4 / math.sqrt(4 * N)  # four standard errors of a rate, at most
PROMPTS = list(world.prompts(0, "checker test", N, tasks=["chain"]))
CHAIN = Prompt(
    (Message("user", "Count: 5 +3 -2 +1 -1 +2 -3."),),
    "chain",
    {
        "steps": [
            [5, "+", 3, 8],
            [8, "-", 2, 6],
            [6, "+", 1, 7],
            [7, "-", 1, 6],
            [6, "+", 2, 8],
            [8, "-", 3, 5],
        ],
        "answer": 5,
    },
)
RIGHT = ("1. 5+3=8.", "2. 8-2=6.", "3. 6+1=7.", "4. 7-1=6.", "5. 6+2=8.", "6. 8-3=5.", "Answer: 5.")


def reference(prompt: Prompt) -> dict:
    return dict(prompt.reference or {})


def solved(prompt: Prompt) -> Response:
    return Response.written(prompt, chains.write(reference(prompt), rng(0, "right", prompt.id)))


def spoilt(prompt: Prompt, wrong: int = 1) -> Response:
    """A solution in which so many steps, drawn at random, are wrong by themselves."""
    drawn = rng(1, prompt.id).permutation(chains.STEPS)[:wrong]
    steps: list[maths.Step] = []
    value = reference(prompt)["steps"][0][0]
    for number, (_, op, by, _) in enumerate(reference(prompt)["steps"]):
        result = maths.compute(value, op, by) + (3 if number in drawn else 0)
        steps.append([value, op, by, result])
        value = result
    return Response.written(prompt, maths.show(steps, value))


def right_votes(votes: list[Vote | None]) -> float:
    """Of pairs whose first response is the better one."""
    return float(np.mean([vote is not None and vote.preference < 0 for vote in votes]))


def votes(pairs: list[tuple[Response, Response]], **options: object) -> list[Vote | None]:
    return build_judge([{"judge": "checker", **options}]).compare(pairs)


SINGLE = [(solved(prompt), spoilt(prompt)) for prompt in PROMPTS]


@pytest.mark.parametrize("checks", [0, 1, 2, 5, 6, 9])
def test_unaided_it_is_right_as_counting_says(checks: int) -> None:
    """One wrong step of six: found with checks / 6, else the vote is a guess."""
    found = min(checks, 6) / 6
    assert right_votes(votes(SINGLE, checks=checks)) == pytest.approx(found + (1 - found) / 2, abs=ERROR)


@pytest.mark.parametrize("wrong", [2, 4])
def test_several_wrong_steps_are_found_with_the_hypergeometric_probability(wrong: int) -> None:
    missed = comb(6 - wrong, 2) / comb(6, 2)
    pairs = [(solved(prompt), spoilt(prompt, wrong)) for prompt in PROMPTS]
    assert right_votes(votes(pairs)) == pytest.approx(1 - missed / 2, abs=ERROR)


def test_help_decides_where_it_points_at_the_wrong_step() -> None:
    assert right_votes(votes(SINGLE, assistant="world", control=0)) == 1.0
    assert right_votes(votes(SINGLE, assistant="world", control=0, checks=0)) == pytest.approx(0.5, abs=ERROR)


@pytest.mark.parametrize("trust", [0.0, 0.5, 1.0])
def test_an_adversary_wastes_a_check_and_is_believed_as_often_as_it_is_trusted(trust: float) -> None:
    """It points at one right step of each: one check of the other five is left, so 1/2 + 1/2 * 1/5 where nothing is believed."""
    said = votes(SINGLE, assistant="world", control=0, adversarial=1, trust=trust)
    assert right_votes(said) == pytest.approx((1 - trust) * 0.6, abs=ERROR)
    for vote in said:
        assert vote is not None and vote.help is not None
        assert (vote.help.arm, vote.help.argues) == ("adversarial", 1)


def test_of_two_wrong_solutions_the_one_that_is_right_for_longer() -> None:
    """Who verifies all steps agrees with gold, which counts the steps up to the first wrong one."""
    pairs = []
    for prompt, other in zip(PROMPTS[:300], range(300), strict=True):
        first, second = (
            spoilt(prompt),
            Response.written(prompt, chains.slip(reference(prompt), rng(2, other))),
        )
        pairs.append((first, second))
    gold = [grade(a.prompt, a.text).parts["steps"] - grade(b.prompt, b.text).parts["steps"] for a, b in pairs]
    said = [vote.preference for vote in votes(pairs, checks=6) if vote]
    decided = [(margin, vote) for margin, vote in zip(gold, said, strict=True) if margin]
    assert len(decided) > 100 and all((margin > 0) == (vote < 0) for margin, vote in decided)


def test_arms_are_drawn_by_content_in_their_shares() -> None:
    options = {"assistant": "world", "control": 0.25, "adversarial": 0.25}
    said = votes(SINGLE, **options)
    arms = [vote.help.arm for vote in said if vote and vote.help]
    assert arms.count("none") / N == pytest.approx(0.25, abs=ERROR)
    assert arms.count("adversarial") / N == pytest.approx(0.25, abs=ERROR)
    turned = votes([(b, a) for a, b in SINGLE], **options)
    assert [vote.help.arm for vote in turned if vote and vote.help] == arms
    other = votes(SINGLE, **options, seed=1)
    assert [vote.help.arm for vote in other if vote and vote.help] != arms
    kept = [vote.help for vote in said if vote and vote.help and vote.help.arm == "none"]
    assert {(one.said, one.argues, one.template) for one in kept} == {(("", ""), None, "")}


def test_a_vote_follows_from_seed_and_pair_alone() -> None:
    alone = [votes([pair], assistant="world")[0] for pair in SINGLE[:40]]
    assert alone == votes(SINGLE, assistant="world")[:40]
    assert [vote and vote.preference for vote in votes(SINGLE, seed=5)] != [
        vote and vote.preference for vote in votes(SINGLE)
    ]


def test_what_the_expert_says() -> None:
    wrong = "\n".join([*RIGHT[:3], "4. 7-1=5.", "5. 5+2=7.", "6. 7-3=4.", "Answer: 4."])
    pair = (Response.written(CHAIN, "\n".join(RIGHT)), Response.written(CHAIN, wrong))
    [vote] = votes([pair], assistant="world", control=0)
    assert vote is not None and vote.help is not None
    assert vote.help.said == ("I find nothing wrong.", "Look at step 4: 4. 7-1=5.") and vote.help.argues == 0
    [vote] = votes([pair], assistant="world", control=0, adversarial=1)
    assert vote is not None and vote.help is not None and vote.help.argues == 1
    assert vote.help.said[0].startswith("This is wrong: step ")
    assert (
        vote.help.said[1].startswith("Every step is right. Look at step ")
        and "step 4" not in vote.help.said[1]
    )


@pytest.mark.parametrize(
    ("lines", "wrong", "plain"),
    [
        (RIGHT, "000000", False),
        ((*RIGHT[:5], "6. 8-3=6.", "Answer: 6."), "000001", False),
        (("1. 3+5=8.", *RIGHT[1:]), "000000", False),  # the other way round is the same sum
        (("1. 5-3=2.", "2. 2-2=0.", "3. 0+1=1.", "4. 1-1=0.", "5. 0+2=2.", "6. 2-3=0.", "Answer: 0."), "100001", False),
        ((*RIGHT[:6], "Answer: 4."), "000000", True),
        (RIGHT[:6], "000000", True),
        ((*RIGHT[:5], "Answer: 8."), "00000", True),
        ((*RIGHT[:2], "I think so.", *RIGHT[3:]), "001100", True),  # the next goes on from a number that nobody wrote
        ((), "", True),
    ],
)  # fmt: skip
def test_faults_by_hand(lines: tuple[str, ...], wrong: str, plain: bool) -> None:
    assert faults(CHAIN, "\n".join(lines)) == Faults(tuple(mark == "1" for mark in wrong), plain)


def test_a_sound_solution_of_every_task_has_no_fault() -> None:
    for task, write in (("maths", maths.write), ("options", write_options)):
        for prompt in world.prompts(0, "checker test", 40, tasks=[task]):
            found = faults(prompt, write(reference(prompt), rng(0, prompt.id)))
            assert not any(found.steps) and not found.plain


def test_chains_have_one_wrong_step_and_no_number_below_zero() -> None:
    assert len({prompt.text() for prompt in PROMPTS}) == N
    for number, prompt in enumerate(PROMPTS[:400]):
        assert grade(prompt, chains.write(reference(prompt), rng(0, number))).value == 1.0
        for name, (_, write) in chains.flaws(reference(prompt)).items():
            text = write(reference(prompt), rng(0, name, number))
            assert sum(faults(prompt, text).steps) == 1 and not faults(prompt, text).plain
            assert "=-" not in text and grade(prompt, text).value < 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"control": 0.5}, "control means nothing without an assistant"),
        ({"trust": 0.5}, "trust means nothing without an assistant"),
        ({"assistant": "world", "control": 0.6, "adversarial": 0.6}, "are more than all pairs together"),
        ({"assistant": {"assistant": "world", "point": 2}}, "unknown option 'point': did you mean 'points'"),
        ({"assistant": {"points": 2}}, "names no assistant"),
        ({"check": 2}, "unknown option 'check': did you mean 'checks'"),
    ],
)
def test_options_that_mean_nothing(options: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as error:
        votes([], **options)
    assert "\n" not in str(error.value)


def test_what_has_no_steps_is_refused_and_it_has_no_scores() -> None:
    other = Response.written(Prompt("Why?", "conversation", {"kind": "said"}), "So.")
    with pytest.raises(
        ValueError, match="has task 'conversation': the checker verifies steps of chain, maths, options"
    ):
        votes([(other, other)])
    with pytest.raises(ValueError, match="compares solutions and gives no scores"):
        build_judge("checker").score([other])


def test_judgements_are_gold_in_points_as_the_template_puts_them() -> None:
    """The rows are what a judge with that template asks: word for word, so that what is learnt is what is asked."""
    found = list(judgements(0, 200, careless=0.6))
    points = [int(row.response) for row in found]
    assert set(points) <= set(range(6)) and points.count(5) == pytest.approx(80, abs=30) and min(points) < 3
    template = read_template("points")
    for row in found[:20]:
        [asked] = row.prompt.content
        between = unfenced(asked.content)  # type: ignore[union-attr]
        again = template.messages("logits", prompt=between["prompt"], response=between["response"])
        assert asked.content == again[0]["content"]  # type: ignore[union-attr]
        assert between["prompt"].startswith("user: Count: ") and "Answer: " in between["response"]


def test_files_of_chains(tmp_path: Path) -> None:
    sizes = {
        "document_count": 40,
        "demonstration_count": 8,
        "prompt_count": 8,
        "heldout_count": 4,
        "solution_count": 10,
    }
    counts = write_world(tmp_path, 1, **sizes, tasks=["chain"])  # type: ignore[arg-type]
    assert counts["judgements.jsonl"] == counts["steps.jsonl"] == 10 and "drills.jsonl" not in counts
    steps = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    assert {row["task"] for row in steps} == {"chain"} and {len(row["completions"]) for row in steps} == {7}
    for row in steps:
        prompt = Prompt.from_json(row["prompt"], row["task"], row["reference"])
        wrong = faults(prompt, "\n".join(row["completions"])).steps
        assert (-1 in row["marks"]) == any(wrong) and (
            not any(wrong) or row["marks"].index(-1) == wrong.index(True)
        )
    text = (tmp_path / "pretrain.jsonl").read_text()
    assert "Count: " in text and "Reader: " in text and "gives away" not in text


def test_chains_stand_alone() -> None:
    with pytest.raises(ValueError, match="the task chain stands alone"):
        build(WorldSettings, {"tasks": ["chain", "maths"]})
