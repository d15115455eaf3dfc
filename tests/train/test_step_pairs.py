"""Corrected steps against original ones, as they reach the loss: nothing before the first difference, everything behind it."""

from __future__ import annotations

import pytest

from tests.train.making import make_tokenizer
from tutelage.data.preflight.responses import prepare_comparisons
from tutelage.feedback.refining import lessons
from tutelage.records import MarkedStep, Message, Prompt, Refinement, Round
from tutelage.settings.base import build
from tutelage.settings.preference import DPOSettings
from tutelage.train.preference import trained_part

PLAIN = Prompt("3 bags with 2 eggs. How many?\n")
SETTINGS = build(DPOSettings, {"out": "x", "shared_prefix": "mask"})
FIRST = MarkedStep("I read.\n", 1)


def pair(wrong: str, right: str, more: str = "") -> Refinement:
    """more: what stands behind the step in both solutions."""
    rest = (MarkedStep(more, 1),) if more else ()
    before = Round((FIRST, MarkedStep(wrong, -1, rewrite=right.strip()), *rest), by="a", role="expert")
    after = Round((FIRST, MarkedStep(right, 1), *rest), "rewritten", 1)
    return Refinement(PLAIN, (before, after))


@pytest.mark.parametrize(
    ("found", "chosen", "rejected", "ends"),
    [
        # A step that goes on: its separator is in the loss, and no end.
        (pair("So 5.\n", "It is 6.\n", "Answer."), "It is 6.\n", "So 5.\n", False),
        (pair("So 5.\n", "So 6.\n", "Answer."), "6.\n", "5.\n", False),
        # The last step: its end is in the loss.
        (pair("So 5.", "So 6."), "6.", "5.", True),
    ],
)
def test_what_is_learnt_of_a_corrected_step(
    found: Refinement, chosen: str, rejected: str, ends: bool
) -> None:
    tokenizer = make_tokenizer()
    prepared = prepare_comparisons(tokenizer, lessons.step_pairs(found), max_length=128)
    [one] = [trained_part(each, SETTINGS) for each in prepared.examples]
    for side, expected in ((one.chosen, chosen), (one.rejected, rejected)):
        learnt = side.ids[side.loss_mask].tolist()
        assert (learnt[-1] == tokenizer.eos_token_id) is ends
        words = tokenizer.decode(learnt, skip_special_tokens=True)
        assert words.lstrip() == expected
        context = tokenizer.decode(side.ids[~side.loss_mask].tolist(), skip_special_tokens=True)
        assert context + words == f"{PLAIN.content}I read.\n" + (
            found.rounds[1 if side is one.chosen else 0].steps[1].text
        )


def test_a_step_that_is_the_end_of_one_solution_alone() -> None:
    """The corrected one goes on, where the original one was the last: the separator against the end."""
    before = Round((FIRST, MarkedStep("So 5.", -1)), by="a", role="expert")
    after = Round((FIRST, MarkedStep("So 5,\n", 1), MarkedStep("or 6.", 1)), "regenerated", 1)
    tokenizer = make_tokenizer()
    pairs = lessons.step_pairs(Refinement(PLAIN, (before, after)))
    [one] = prepare_comparisons(tokenizer, pairs, max_length=128).examples
    assert one.chosen.ids[-1] != tokenizer.eos_token_id == one.rejected.ids[-1]
    assert tokenizer.decode(one.chosen.ids[-1:].tolist()).endswith("\n")


def test_a_chat_keeps_the_separator_of_a_step_that_goes_on() -> None:
    """Templates take the white space off the end of a turn: of a response that goes on it is kept."""
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    found = pair("So 5.\n", "So 6.\n", "Answer.")
    chat = Refinement(Prompt((Message("user", "How many?"),)), found.rounds)
    [one] = prepare_comparisons(tokenizer, lessons.step_pairs(chat), max_length=128).examples
    for side in (one.chosen, one.rejected):
        assert tokenizer.decode(side.ids[-1:].tolist()).endswith("\n")
