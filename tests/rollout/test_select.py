"""Best-of-n as a generator: which responses it returns, that they are what plain sampling draws, and what it counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.judges.kit import Longer, Says
from tests.rollout.conftest import prepared
from tutelage.judges.judge import Judge
from tutelage.records import Prompt, Response, Score
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.rollout.select import BestOf, best_of_each

DRAWN = Sampling(max_new_tokens=7, samples=2, seed=5, step=3)


class By(Judge):
    """Scores by a function of the response."""

    name = "by"

    def __init__(self, worth: Callable[[Response], float]) -> None:
        self.worth = worth

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        return [Score(self.worth(response)) for response in responses]


@pytest.fixture(scope="module")
def generator(tokenizer) -> LocalGenerator:
    return LocalGenerator(prepared("llama"), tokenizer)


def test_the_best_of_each_group() -> None:
    assert best_of_each([1.0, 3.0, 3.0, 0.0], ["a", "a", "a", "b"], range(4), 1) == [1, 3]


def test_each_response_is_the_best_of_a_group_of_its_own(generator, prompts) -> None:
    """Against plain sampling of 2 x 4 responses and a search by hand."""
    judge = By(lambda response: sum(response.ids) % 11)
    found = BestOf(generator, judge, 4).choose(prompts, DRAWN)
    plain = generator.generate(prompts, Sampling(7, samples=8, seed=5, step=3))
    assert [best.response.prompt for best in found] == [prompt for prompt in prompts for _ in range(2)]
    assert [best.response.sample_index for best in found] == [0, 1] * len(prompts)
    for number, best in enumerate(found):
        group = plain[4 * number : 4 * number + 4]
        top = max(sum(response.ids) % 11 for response in group)
        first = next(response for response in group if sum(response.ids) % 11 == top)
        assert best.score.value == top
        assert (best.response.ids, best.response.logprobs) == (first.ids, first.logprobs)
    assert len({best.response.ids for best in found}) > len(prompts)


def test_of_equals_the_first_sample_wins(generator, prompts) -> None:
    found = BestOf(generator, By(lambda response: 1.0), 3).generate(prompts, DRAWN)
    plain = generator.generate(prompts, Sampling(7, samples=6, seed=5, step=3))
    assert [response.ids for response in found] == [response.ids for response in plain[::3]]


def test_the_best_of_one_is_plain_sampling_and_asks_no_judge(generator, prompts) -> None:
    asked = Says({})
    assert BestOf(generator, asked, 1).generate(prompts, DRAWN) == generator.generate(prompts, DRAWN)
    assert asked.asked == 0
    one = BestOf(generator, Longer(), 1).choose(prompts, DRAWN)
    assert [best.response for best in one] == generator.generate(prompts, DRAWN)


def test_what_is_drawn_for_a_prompt_depends_on_nothing_else(generator, prompts) -> None:
    best = BestOf(generator, By(lambda response: sum(response.ids) % 11), 4)
    together = best.generate(prompts, DRAWN)
    alone = [best.generate([prompt], DRAWN) for prompt in reversed(prompts)]
    assert [r.ids for r in together] == [r.ids for pair in reversed(alone) for r in pair]
    assert best.generate(prompts, Sampling(7, samples=2, seed=6, step=3)) != together
    twice = best.generate([prompts[0]] * 2, Sampling(7, seed=5, step=3))  # a prompt that stands twice goes on
    assert [(r.ids, r.sample_index) for r in twice] == [(r.ids, r.sample_index) for r in together[:2]]


def test_more_candidates_score_higher(generator, prompts) -> None:
    """The mean of the best never falls where the groups of the larger n hold those of the smaller."""
    means = []
    for n in (1, 2, 4, 8):
        best = BestOf(generator, By(lambda response: sum(response.ids) % 11), n)
        scores = [each.score.value for each in best.choose(prompts, Sampling(7, samples=16 // n))]
        means.append(sum(scores) / len(scores))
    assert means == sorted(means) and means[-1] > means[0] + 2


def test_it_counts_what_it_drew(generator, prompts) -> None:
    best = BestOf(generator, By(lambda response: sum(response.ids) % 11), 3)
    best.generate(prompts[:2], DRAWN)
    first = best.spent.tokens
    best.generate(prompts[2:], DRAWN)
    plain = generator.generate(prompts, Sampling(7, samples=6, seed=5, step=3))
    scores = [sum(response.ids) % 11 for response in plain]
    tops = [max(scores[i : i + 3]) for i in range(0, len(scores), 3)]
    assert 0 < first < best.spent.tokens == sum(len(response.ids) for response in plain)
    assert (best.spent.answers, best.spent.candidates) == (2 * len(prompts), 6 * len(prompts))
    assert best.spent.gain == pytest.approx(sum(tops) / len(tops) - sum(scores) / len(scores))
    assert best.spent.seconds > 0


def test_new_weights_reach_the_candidates(tokenizer, prompts) -> None:
    inner = LocalGenerator(prepared("llama"), tokenizer)
    best = BestOf(inner, By(lambda response: sum(response.ids) % 11), 3)
    before = best.generate(prompts, DRAWN)
    other = prepared("llama")
    for parameter in other.parameters():
        parameter.data.mul_(1.5)
    best.sync(other, 9)
    after = best.generate(prompts, DRAWN)
    assert {response.version for response in after} == {9} and [r.ids for r in before] != [
        r.ids for r in after
    ]


def test_a_judge_that_does_not_apply_is_one_sentence(generator) -> None:
    class Mute(Judge):
        name = "mute"

        def score(self, responses: Sequence[Response]) -> list[Score | None]:
            return [None] * len(responses)

    with pytest.raises(ValueError, match="the judge mute does not apply to the prompt 'what is it'"):
        BestOf(generator, Mute(), 2).generate([Prompt("what is it")], DRAWN)
    with pytest.raises(ValueError, match="best_of is 0; give at least 1"):
        BestOf(generator, Longer(), 0)
