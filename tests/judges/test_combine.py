"""A mix against sums made by hand, ranks against scipy, moments against numpy."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from tests.judges.kit import Said, Says, values, written
from tutelage.judges.calibration import Calibration, RunningCalibration, TaskCalibration
from tutelage.judges.combine import Mix, Part, named, ranked
from tutelage.judges.ends import Ends
from tutelage.judges.judge import Judge, scores_of
from tutelage.records import Prompt, Response, Score

A, B, C = written("a"), written("b"), written("c")


def part(said: Said, name: str, **options: Any) -> Part:
    return Part(Says(said, f"judge of {name}"), name, **options)


def test_a_weighted_sum_and_every_part_of_it_as_it_is() -> None:
    mix = Mix(
        [
            part({"a": 2.0, "b": -1.0}, "one", weight=0.5),
            part({"a": 10.0, "b": Score(20.0, {"x": 3.0})}, "two", weight=-0.1),
        ]
    )
    found = scores_of(mix, [A, B])
    assert values(found) == [0.0, -2.5]
    assert found[0].parts == {"one": 2.0, "two": 10.0}
    assert found[1].parts == {"one": -1.0, "two": 20.0, "two/x": 3.0}
    assert mix.score([]) == [] and mix.state is None


def test_what_does_not_apply_is_left_out_and_never_zero() -> None:
    mix = Mix(
        [
            part({"a": 1.0, "b": None, "c": None}, "one"),
            part({"a": None, "b": -3.0, "c": None}, "two", weight=2),
        ]
    )
    first, second, third = mix.score([A, B, C])
    assert first == Score(1.0, {"one": 1.0})
    assert second is not None and (second.value, second.parts) == (-6.0, {"two": -3.0})
    assert third is None


def test_a_part_that_is_only_watched_makes_no_score() -> None:
    mix = Mix([part({"a": 1.0, "b": None}, "one"), part({"a": 7.0, "b": 7.0}, "watched", weight=0.0)])
    first, second = mix.score([A, B])
    assert first is not None and (first.value, first.parts) == (1.0, {"one": 1.0, "watched": 7.0})
    assert second is None


def test_a_failed_gate_takes_the_place_of_the_sum() -> None:
    gate = part({"a": 0.49, "b": 0.5, "c": None}, "safe", weight=4.0, gate=0.5)
    mix = Mix([part({"a": 10.0, "b": 10.0, "c": 10.0}, "good"), gate])
    assert values(mix.score([A, B, C])) == [1.96, 10.0, 10.0]
    found = mix.score([A])[0]
    assert found is not None and found.parts == {"good": 10.0, "safe": 0.49}


def test_several_failed_gates_add_up_whichever_comes_first() -> None:
    gates = [
        part({"a": -1.0, "b": 1.0}, "safe", weight=2.0, gate=0.0),
        part({"a": -5.0, "b": -5.0}, "short", weight=1.0, gate=0.0),
    ]
    good = part({"a": 100.0, "b": 100.0}, "good")
    for order in ([good, *gates], [*gates[::-1], good]):
        assert values(Mix(order).score([A, B])) == [-7.0, -5.0]


def test_a_gate_alone_says_nothing_of_what_passes_it() -> None:
    mix = Mix([part({"a": None, "b": None}, "good"), part({"a": 1.0, "b": -1.0}, "safe", gate=0.0)])
    assert values(mix.score([A, B])) == [None, -1.0]


@pytest.mark.parametrize(
    "wrong", [math.nan, math.inf, -math.inf, 1e39, "0.5", Score(1.0, {}, ((1, math.nan),))]
)
def test_what_is_no_number_names_part_and_prompt(wrong: Any) -> None:
    mix = Mix([part({"a": 1.0, "b": 1.0}, "good"), part({"a": 1.0, "b": wrong}, "odd")])
    with pytest.raises(ValueError, match=r"judge odd gave .* for the prompt 'prompt of b'"):
        mix.score([A, B])


def test_the_wrong_count_no_score_and_a_place_outside_name_the_judge() -> None:
    class Short(Judge):
        name = "short"

        def score(self, responses: Any) -> Any:
            return [Score(1.0)]

    class Bare(Judge):
        name = "bare"

        def score(self, responses: Any) -> Any:
            return [1.0 for _ in responses]

    for judge, said in (
        (Short(), "judge part gave 1 scores for 2 responses"),
        (Bare(), r"judge part gave 1\.0 for the prompt"),
        (
            Says({"a": 1.0, "b": Score(1.0, {}, ((3, 1.0),))}),
            "a score at token 3 of 3 for the prompt 'prompt of b'",
        ),
    ):
        with pytest.raises(ValueError, match=said):
            Mix([Part(judge, "part")]).score([A, B])
    with pytest.raises(ValueError, match="judge short gave 1 scores for 2 responses"):
        scores_of(Ends(Short(), -1.0), [A, B])


# places in a response ---------------------------------------------------------------------------------------------------


def test_scores_of_places_add_up_and_those_of_the_whole_stand_at_its_last_token() -> None:
    steps = part({"a": Score(3.0, {}, ((0, 1.0), (2, 2.0))), "b": 5.0}, "steps", weight=2.0)
    whole = part({"a": 10.0, "b": 10.0}, "whole", weight=0.5)
    first, second = scores_of(Mix([whole, steps]), [A, B])
    assert (first.value, first.at) == (11.0, ((0, 2.0), (2, 9.0)))
    assert (second.value, second.at) == (15.0, ())


def test_what_a_failed_gate_changes_stands_at_the_last_token() -> None:
    """What the steps before were given is not taken back where they stand: what follows them would seem worth more."""
    steps = part({"a": Score(3.0, {}, ((0, 1.0), (1, 2.0)))}, "steps")
    for gate, weight, value in (("safe", 1.0, -1.0), ("form", 0.0, 0.0)):
        [found] = scores_of(Mix([steps, part({"a": -1.0}, gate, weight=weight, gate=0.0)]), [A])
        assert found.value == value
        assert found.at == ((0, 1.0), (1, 2.0), (len(A.ids) - 1, value - 3.0))


def test_a_cut_response_keeps_what_its_steps_are_given_and_ends_at_the_fixed_score() -> None:
    steps = part({"a": Score(3.0, {}, ((0, 1.0), (1, 2.0))), "b": 5.0}, "steps")
    steps.judge.places = True
    cut = written("a", finish="length")
    for judge in (steps.judge, Mix([steps])):
        found, whole = scores_of(Ends(judge, -1.0), [cut, B])
        assert (found.value, found.parts) == (-1.0, {}) and whole.value == 5.0
        assert found.at == ((0, 1.0), (1, 2.0), (len(A.ids) - 1, -4.0))
    steps.judge.places = False
    [found] = scores_of(Ends(steps.judge, -1.0), [cut])
    assert (found.value, found.at) == (-1.0, ())


def test_places_are_in_the_units_of_the_whole() -> None:
    steps = part({"a": Score(3.0, {}, ((0, 1.0), (2, 2.0)))}, "steps", scale=Calibration((1.0, 4.0)))
    [found] = scores_of(Mix([steps]), [A])
    assert (found.value, found.at) == (0.5, ((0, 0.25), (2, 0.5)))


def test_places_have_no_rank() -> None:
    steps = part({"a": Score(3.0, {}, ((0, 1.0),)), "b": 1.0}, "steps", scale="rank")
    with pytest.raises(ValueError, match="the judge steps scores places in a response, and normalise: rank"):
        Mix([steps]).score([A, B])


# ranks -------------------------------------------------------------------------------------------------------------------


def test_ranks_are_scipys_and_do_not_depend_on_the_order() -> None:
    drawn = np.random.default_rng(0)
    for size in range(2, 40):
        numbers = drawn.integers(-size // 3, size // 3 + 1, size).astype(float)  # with ties
        expected = (rankdata(numbers, "average") - 1) / (size - 1) * 2 - 1
        found = ranked(numbers.tolist())
        assert found == pytest.approx(expected.tolist(), abs=1e-12)
        assert abs(sum(found)) < 1e-9 and min(found) >= -1 and max(found) <= 1
        order = drawn.permutation(size)
        assert ranked(numbers[order].tolist()) == [found[i] for i in order]
        assert ranked(np.exp(numbers).tolist()) == found  # only the order counts


def test_ranks_are_among_those_to_which_the_part_applies() -> None:
    said = {"a": 5.0, "b": None, "c": 7.0, "d": 6.0}
    mix = Mix([part(said, "some", scale="rank"), part(dict.fromkeys("abcd", 0.0), "all")])
    assert values(mix.score([written(text) for text in "abcd"])) == [-1.0, 0.0, 1.0, 0.0]
    assert ranked([]) == [] and ranked([9.0]) == [0.0] and ranked([2.0, 2.0]) == [0.0, 0.0]


# running moments -----------------------------------------------------------------------------------------------------------


def test_running_moments_are_those_of_all_scores_at_once() -> None:
    drawn = np.random.default_rng(0)
    batches = [drawn.normal(1e6, 3.0, size).tolist() for size in (5, 1, 64, 7)]
    running = RunningCalibration()
    for batch in batches:
        running.learn(batch)
    everything = np.concatenate([np.array(batch) for batch in batches])
    assert int(running.count) == 77
    assert float(running.mean) == pytest.approx(everything.mean(), rel=1e-14)
    assert float(running.std) == pytest.approx(everything.std(), rel=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_the_order_within_a_batch_changes_no_bit(seed: int) -> None:
    drawn = np.random.default_rng(seed)
    batch = drawn.normal(
        0, 10.0 ** drawn.integers(-3, 8, 50)
    )  # sums in another order differ in their last bits
    assert len({float(np.cumsum(drawn.permutation(batch))[-1]) for _ in range(20)}) > 1
    one, other = RunningCalibration(), RunningCalibration()
    for calibration, ordered in ((one, batch), (other, drawn.permutation(batch))):
        calibration.learn([0.3, 0.7])
        calibration.learn(ordered.tolist())
    for name, buffer in one.state_dict().items():
        assert torch.equal(buffer, other.state_dict()[name]), name


@pytest.mark.parametrize("value", [0.1, 1 / 3, -7.3e5, 0.0])
def test_scores_that_are_all_equal_are_not_blown_up_by_rounding(value: float) -> None:
    for calibration in (RunningCalibration(), Calibration()):
        calibration.measure([value] * 3)
        assert values(calibration.scaled([Score(value), Score(value + 1)])) == pytest.approx(
            [0.0, 1.0], abs=1e-9
        )


def zscored(said: Said) -> tuple[Mix, Says]:
    judge = Says(said)
    return Mix([Part(judge, "judge", scale=RunningCalibration())]), judge


def test_scores_are_normalised_by_what_was_trained_on_and_not_by_what_evaluates() -> None:
    mix, _ = zscored({"a": 1.0, "b": 3.0, "c": 100.0})
    assert values(mix.score([A, C])) == [1.0, 100.0]  # nobody has measured them
    mix.learn([A, B], mix.score([A, B]))  # mean 2, deviation 1
    for _ in range(3):
        assert values(mix.score([A, B, C])) == [-1.0, 1.0, 98.0]
    mix.learn([A, B, C], mix.score([A, B, C]))
    sample = [1.0, 3.0, 1.0, 3.0, 100.0]
    assert values(mix.score([C])) == pytest.approx([(100 - np.mean(sample)) / np.std(sample)])


def test_it_learns_from_scores_as_they_are_and_not_from_cut_responses() -> None:
    mix, judge = zscored({"a": 1.0, "b": 3.0, "c": None})
    judged = Ends(mix, -9.0)
    for _ in range(2):
        responses = [A, B, C, written("cut", finish="length")]
        scores = judged.score(responses)
        assert values(scores[3:]) == [-9.0]
        judged.learn(responses, scores)
    assert judged.state is mix.state
    assert values(mix.score([A, B])) == [-1.0, 1.0]
    assert judge.learnt == [Score(1.0), Score(3.0), None] * 2


def test_a_judge_in_a_mix_learns_from_its_own_scores() -> None:
    judge = Says({"a": Score(2.0, {"x": 5.0})})
    mix = Mix([Part(judge, "judge", weight=3.0), part({"a": 1.0}, "judge-2")])
    mix.learn([A], mix.score([A]))
    assert [(score.value, score.parts) for score in judge.learnt if score] == [(2.0, {"x": 5.0})]


def test_the_references_responses_are_the_first_that_it_learns_from() -> None:
    drawn = []

    def sample() -> Any:
        drawn.append(1)
        return [A, B, C]

    mix = Mix(
        [
            part({"a": 1.0, "b": 3.0, "c": None}, "running", scale=RunningCalibration()),
            part({"a": 10.0, "b": 20.0, "c": 30.0}, "fixed", scale=Calibration()),
            part({"a": 0.0, "b": 0.0, "c": 0.0}, "raw"),
        ]
    )
    said = mix.calibrate(sample)
    assert said is not None and "judge of running" in said and "judge of fixed" in said and "raw" not in said
    deviation = math.sqrt(200 / 3)
    assert values(mix.score([A, C])) == pytest.approx([-1.0 - 10 / deviation, 10 / deviation])
    assert mix.calibrate(sample) is None and len(drawn) == 1
    mix.learn([B, B], mix.score([B, B]))
    assert values(mix.score([A]))[0] == pytest.approx((1 - 2.5) / math.sqrt(0.75) - 10 / deviation)


def test_a_judge_that_applies_to_nothing_cannot_be_measured() -> None:
    mix = Mix([part({"a": None}, "never", scale=Calibration()), part({"a": 1.0}, "ever")])
    with pytest.raises(ValueError, match="judge of never applies to none of the first 1 prompts"):
        mix.calibrate(lambda: [A])


def test_a_restart_changes_no_bit() -> None:
    drawn = np.random.default_rng(1)
    said = {str(i): float(drawn.normal(3, 2)) for i in range(40)}
    steps = [[written(str(i)) for i in range(at, at + 8)] for at in range(0, 40, 8)]

    def through(restart: int) -> list[float | None]:
        mix, _ = zscored(said)
        found = []
        for number, responses in enumerate(steps):
            if number == restart:
                assert mix.state is not None
                saved = {name: buffer.clone() for name, buffer in mix.state.state_dict().items()}
                mix, _ = zscored(said)
                assert mix.state is not None
                mix.state.load_state_dict(saved)
            scores = mix.score(responses)
            mix.learn(responses, scores)
            found += values(scores)
        return found

    assert through(restart=-1) == through(restart=3)


# names -------------------------------------------------------------------------------------------------------------------


def test_names_are_given_or_the_judges_own_and_never_the_same() -> None:
    own = ["runs/reward", "world", "runs/other/reward", "http://host/score/", "reward"]
    judges = [Says({}, name) for name in own]
    assert named(judges, [""] * 5) == ["reward", "world", "reward-2", "score", "reward-3"]
    assert named(judges, ["", "", "", "reward", "reward-2"]) == [
        "reward-3",
        "world",
        "reward-4",
        "reward",
        "reward-2",
    ]
    assert named(judges[:1], [""], taken=["reward"]) == ["reward-2"]


# by task --------------------------------------------------------------------------------------------------------------------


def of_task(text: str, task: str) -> Response:
    answer = written(text)
    return replace(answer, prompt=Prompt(f"prompt of {text}", task=task))


def test_a_part_of_some_tasks_is_not_asked_about_others() -> None:
    maths, chat = Says({"a": 1.0}, "right"), Says({"b": 5.0, "a": 7.0}, "kind")
    mix = Mix([Part(maths, "right", tasks=frozenset({"maths"})), Part(chat, "kind", weight=0.5)])
    first, second = mix.score([of_task("a", "maths"), of_task("b", "chat")])
    assert first is not None and (first.value, first.parts) == (4.5, {"right": 1.0, "kind": 7.0})
    assert second is not None and (second.value, second.parts) == (2.5, {"kind": 5.0})
    assert (maths.asked, chat.asked) == (1, 2)
    alone = Mix([Part(maths, "right", tasks=frozenset({"maths"}))])
    assert alone.score([of_task("b", "chat")]) == [None]


def by_task(said: Said) -> Mix:
    return Mix([Part(Says(said), "judge", scale=TaskCalibration())])


def test_each_task_is_in_units_of_its_own() -> None:
    """One task's scores are a hundred times as large: with one scale it alone would be learnt from."""
    drawn = np.random.default_rng(0)
    small, large = drawn.normal(2, 1, 20), drawn.normal(-300, 100, 30)
    responses = [of_task(f"s{i}", "small") for i in range(20)] + [
        of_task(f"l{i}", "large") for i in range(30)
    ]
    said = {f"s{i}": float(v) for i, v in enumerate(small)} | {f"l{i}": float(v) for i, v in enumerate(large)}
    mix = by_task(said)
    assert mix.calibrate(lambda: responses[:10] + responses[20:30]) is not None
    mix.learn(responses[10:20] + responses[30:], mix.score(responses[10:20] + responses[30:]))
    found = np.array(values(mix.score(responses)), dtype=float)
    assert found[:20] == pytest.approx((small - small.mean()) / small.std(), rel=1e-9)
    assert found[20:] == pytest.approx((large - large.mean()) / large.std(), rel=1e-9)
    plain, _ = zscored(said)
    plain.learn(responses, plain.score(responses))
    together = np.array(values(plain.score(responses)), dtype=float)
    assert together[:20].std() < 0.02 < 0.5 < together[20:].std()


def test_a_restart_knows_the_tasks_that_were_met() -> None:
    said = {"a": 1.0, "b": 3.0, "c": 10.0, "d": 30.0, "e": 7.0}
    responses = [
        of_task(text, task) for text, task in zip("abcde", ("x", "x", "y.z/ü", "y.z/ü", ""), strict=True)
    ]
    mix, again = by_task(said), by_task(said)
    mix.learn(responses, mix.score(responses))
    assert mix.state is not None and again.state is not None
    again.state.load_state_dict(mix.state.state_dict())
    assert again.score(responses) == mix.score(responses)
    assert values(mix.score(responses)) == [-1.0, 1.0, -1.0, 1.0, 0.0]
    assert "10" not in (mix.calibrate(lambda: pytest.fail("it is known")) or "")  # type: ignore[arg-type, return-value]


def test_what_is_not_said_of_a_task_moves_no_other() -> None:
    mix = by_task({"a": 1.0, "b": 3.0, "c": 100.0})
    mix.learn(
        [of_task("a", "x"), of_task("b", "x")], [Score(1.0, {"judge": 1.0}), Score(3.0, {"judge": 3.0})]
    )
    before = values(mix.score([of_task("a", "x")]))
    mix.learn([of_task("c", "y")], [Score(100.0, {"judge": 100.0})])
    assert values(mix.score([of_task("a", "x")])) == before == [-1.0]
    assert mix.state is not None
    kept = set(mix.state.state_dict())
    assert values(mix.score([of_task("a", "new")])) == [1.0]  # of which nothing is known
    assert set(mix.state.state_dict()) == kept


def test_scores_before_the_first_measurement_do_not_pass_for_one() -> None:
    mix = by_task({"a": 1.0, "b": 3.0})
    responses = [of_task("a", "x"), of_task("b", "x")]
    assert values(mix.score(responses)) == [1.0, 3.0]
    assert mix.calibrate(lambda: responses) is not None and values(mix.score(responses)) == [-1.0, 1.0]
