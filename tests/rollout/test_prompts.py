"""Which prompts are answered: what leaves room in the context, and what the settings allow."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tests.rollout.conftest import CONTEXT, prepared
from tutelage.records import Prompt
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.rollout.prompts import Distinct, answerable

CONSOLE = Console(file=io.StringIO())
GIVEN = {"source": "p.jsonl", "console": CONSOLE}


def test_what_is_kept_can_be_answered_and_what_is_dropped_cannot(tokenizer):
    """The limit is the generator's own, to the token: no prompt that is kept makes it refuse."""
    generator = LocalGenerator(prepared("gpt2"), tokenizer)
    prompts = [Prompt("0" * n) for n in range(1, CONTEXT + 4)]
    kept = answerable(prompts, tokenizer, generator.context, 24, max_dropped_share=0.5, **GIVEN)
    assert list(kept.examples) == prompts[: CONTEXT - 24] and kept.report.dropped
    generator.generate(kept.examples[-1:], Sampling(24))
    with pytest.raises(ValueError, match="exceeds the model's context"):
        generator.generate(prompts[CONTEXT - 24 :][:1], Sampling(24))


@pytest.mark.parametrize(
    ("context", "longest", "advice"),
    [
        (64, 16, ("longer than max_prompt_length=16", "raise max_prompt_length")),
        (None, 16, ("longer than max_prompt_length=16", "raise max_prompt_length")),
        (
            40,
            512,
            (
                "longer than the 16 tokens that max_new_tokens=24 leaves of the context",
                "lower max_new_tokens",
            ),
        ),
    ],
)
def test_too_many_stop_the_work_and_name_the_limit_that_binds(tokenizer, context, longest, advice):
    prompts = [Prompt("0" * n) for n in (3, 16, 17)]
    given = {**GIVEN, "max_prompt_length": longest}
    with pytest.raises(
        ValueError,
        match=f"1 of 3 prompts from p.jsonl .* max_dropped_share=0.1: 1 {advice[0]} .row 3.; {advice[1]}",
    ):
        answerable(prompts, tokenizer, context, 24, max_dropped_share=0.1, **given)
    kept = answerable(prompts, tokenizer, context, 24, max_dropped_share=0.5, **given)
    assert list(kept.examples) == prompts[:2]


def test_no_room_for_any_prompt(tokenizer):
    with pytest.raises(ValueError, match="leaves no room for a prompt in the model's context of 24"):
        answerable([Prompt("0")], tokenizer, 24, 24, max_dropped_share=1.0, **GIVEN)


def test_distinct_goes_by_what_draws_go_by():
    first, same = Prompt("a", task="x"), Prompt("a", task="y")
    assert first.id == same.id
    assert list(Distinct([first, Prompt("b"), same, first])) == [first, Prompt("b")]
